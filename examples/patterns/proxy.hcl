# Proxy: a container that stands before the program and takes its requests.
# Callers reach the proxy at 8000; it passes them on to localhost:8080, where the
# program listens. What belongs before every service, such as checking a token,
# TLS, limits or counting, is written once and put before programs in any language.
# The service leads to the proxy's port only. The program's own port is open in the
# pod's network, too: a network_policy that allows port 8000 alone closes that way
# round (see examples/network). Readiness is asked through the proxy, so that the
# pod gets no requests before both are up. Both stop together: the proxy ends its
# requests within the pod's grace.

deployment "proxy" {
  replicas = 2

  pod {
    labels = { app = "proxy" }

    container "proxy" {
      image   = local.image
      command = ["/web", "proxy", ":8000", "http://localhost:8080"]
      pull    = "never"

      port "front" { port = 8000 }

      readiness {
        http {
          path = "/healthz"
          port = "front"
        }
      }
    }

    container "web" {
      image   = local.image
      command = ["/web", "web"]
      pull    = "never"
    }
  }
}

service "proxy" {
  selector = deployment.proxy.pod.labels

  port "http" {
    port   = 80
    target = "front"
  }
}
