# A canary that Berth leads: the new version gets 5 % of the connections for a
# minute, then half of them until somebody promotes it, then everything.
#
#   make demo                                   # a cluster, and the images shop/web:1 and :2
#   berth -C examples/progressive apply
#   berth -C examples/progressive apply --var tag=2
#   berth rollout promote web                   # or: berth rollout abort web

berth { stack = "progressive" }

variable "tag" {
  type    = string
  default = "1"
}

deployment "web" {
  replicas = 4

  update {
    strategy = "canary"

    step "try" {
      weight = 5
      scale  = 1
      pause  = "1m"
    }

    step "half" {
      weight = 50
      manual = true
    }
  }

  pod {
    labels = { app = "web" }

    container "web" {
      image   = "shop/web:${var.tag}"
      command = ["/web", "web"]
      pull    = "never"

      port "http" { port = 8080 }

      readiness {
        http {
          path = "/healthz"
          port = "http"
        }
      }
    }
  }
}

service "web" {
  selector = deployment.web.pod.labels

  port "http" {
    port   = 80
    target = "http"
  }
}
