# Ambassador: a container that stands between the program and the world outside.
# The program asks localhost:9000 for its stock and knows nothing else; the
# ambassador knows where the stock really is and passes the requests on. In this
# cluster it is the service "sidecar" of this stack; elsewhere it may be another
# region, a cloud's service, or several servers with retries between them. Moving
# it changes the ambassador's command and nothing in the program. It is the mirror
# image of a proxy: that one takes what comes in, this one what goes out.
# `berth port-forward service/ambassador 8080:80`, then `curl localhost:8080/stock`,
# goes the whole way.

deployment "ambassador" {
  replicas = 2

  pod {
    labels = { app = "ambassador" }

    container "web" {
      image   = local.image
      command = ["/web", "web"]
      pull    = "never"
      env     = { STOCK = "http://localhost:9000/" }

      port "http" { port = 8080 }

      readiness {
        http {
          path = "/healthz"
          port = "http"
        }
      }
    }

    container "ambassador" {
      image   = local.image
      command = ["/web", "proxy", "localhost:9000", "http://${service.sidecar.host}"]
      pull    = "never"
    }
  }
}

service "ambassador" {
  selector = deployment.ambassador.pod.labels

  port "http" {
    port   = 80
    target = "http"
  }
}
