# Sidecar: a helper beside the program, which knows nothing of it.
# The web server writes its access log to a file, as programs do that were made
# before containers. The sidecar follows the file and writes it to its own
# standard output, where `berth logs sidecar-… -c shipper` finds it; a real one
# would send it to a store of logs. Neither image has to be changed for the other:
# all that they agree upon is a volume, an empty directory that lives as long as
# the pod. When the shipper crashes it is restarted alone, and the server does not
# notice. Other sidecars of this kind reload certificates, collect metrics, or keep
# a working copy of a repository fresh.

deployment "sidecar" {
  replicas = 2

  pod {
    labels = { app = "sidecar" }

    container "web" {
      image   = local.image
      command = ["/web", "web"]
      pull    = "never"
      env     = { ACCESS_LOG = "/var/log/web/access.log" }

      port "http" { port = 8080 }

      readiness {
        http {
          path = "/healthz"
          port = "http"
        }
      }

      mount "logs" { path = "/var/log/web" }
    }

    container "shipper" {
      image   = local.image
      command = ["/web", "tail", "/var/log/web/access.log"]
      pull    = "never"

      mount "logs" {
        path      = "/var/log/web"
        read_only = true
      }
    }

    volume "logs" {
      empty_dir { size = "16Mi" }
    }
  }
}

service "sidecar" {
  selector = deployment.sidecar.pod.labels

  port "http" {
    port   = 80
    target = "http"
  }
}
