# A canary that is judged by what its users see: the new version gets a fifth of the
# requests, and goes on only while the entrance counts few errors and short answers.
# What fails is put back by itself, and a check that can tell nothing pauses the
# rollout; it never counts as passed.
#
#   make demo                                   # a cluster, and the images shop/web:1, :2 and :3
#   berth -C examples/analysis apply
#   berth -C examples/analysis apply --var tag=2    # with requests coming in
#   berth why deployment/web
#   berth rollout promote web                   # steps over a check by hand
#
# With --var broken=true the new version answers every request with an error: the
# check "errors" sees it, and the revision goes back.

berth { stack = "analysis" }

variable "tag" {
  type    = string
  default = "1"
}

variable "broken" {
  type        = bool
  default     = false
  description = "Let the pods answer every request but the probe with an error."
}

variable "prometheus" {
  type        = string
  default     = ""
  description = "URL of a Prometheus that the masters reach; without one it is not asked."
}

deployment "web" {
  replicas = 4

  update {
    strategy = "canary"

    # Beside the steps, from the first one to the end.
    check "restarts" {
      interval          = "2s"
      success_condition = "== 0"
      signal { metric = "restarts" }
    }

    step "try" {
      weight = 20
      scale  = 1

      check "errors" {
        interval          = "5s"
        count             = 4
        success_condition = "< 1%"

        signal {
          metric       = "error_rate"
          min_requests = 20
        }
      }

      check "latency" {
        interval          = "5s"
        count             = 4
        failure_limit     = 1
        success_condition = "< 250ms"

        signal {
          metric       = "latency_p99"
          min_requests = 20
        }
      }

      dynamic "check" {
        for_each = var.prometheus == "" ? [] : [var.prometheus]
        labels   = ["budget"]

        content {
          interval          = "30s"
          count             = 2
          success_condition = "< 1"

          prometheus {
            address = check.value
            query   = "max(slo:error_budget_burn:rate5m{set=\"{set}\"})"
          }
        }
      }
    }

    step "half" {
      weight = 50

      # A pod of its own that looks at the front page, and has to end with 0.
      check "smoke" {
        run {
          timeout = "1m"

          pod {
            container "smoke" {
              image   = "shop/web:1"
              command = ["/web", "load", "-rate", "10", "-requests", "20", "http://web.default/"]
              pull    = "never"
            }
          }
        }
      }
    }
  }

  pod {
    labels = { app = "web" }

    container "web" {
      image   = "shop/web:${var.tag}"
      command = var.broken ? ["/web", "flaky"] : ["/web", "web"]
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

ingress "web" {
  host = "web.example.com"

  path "/" {
    service = service.web.name
  }
}
