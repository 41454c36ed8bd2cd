# A canary by weight: of a hundred connections five go to the new version, however
# many pods either version has. Raise the weight step by step, or put it to 0.
#
#   make demo                                   # a cluster, and the images shop/web:1 and :2
#   berth -C examples/canary apply
#   berth -C examples/canary apply --var canary=50
#
# The weight is the service's, so that it holds for every client inside the cluster;
# an ingress can split by weight, header or cookie in the same way (`backend`).
# ../progressive has Berth lead such a canary, ../analysis has it judged as well.

berth { stack = "canary" }

variable "canary" {
  type        = number
  default     = 5
  description = "Connections out of a hundred that go to the new version."

  validation {
    condition     = var.canary >= 0 && var.canary <= 100
    error_message = "A percentage is 0 to 100."
  }
}

locals {
  tracks = {
    stable = { image = "shop/web:1", replicas = 4 }
    canary = { image = "shop/web:2", replicas = 1 }
  }
}

deployment "web" {
  for_each = local.tracks
  replicas = each.value.replicas

  pod {
    labels = { app = "web", track = each.key }

    container "web" {
      image   = each.value.image
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
  selector   = { app = "web" }
  depends_on = [deployment.web]

  port "http" {
    port   = 80
    target = "http"
  }

  share "stable" {
    selector = { track = "stable" }
    weight   = 100 - var.canary
  }

  share "canary" {
    selector = { track = "canary" }
    weight   = var.canary
  }
}
