# The demo shop: a front end that rolls without losing a pod, the stock service
# behind it, their configuration and a password. `make demo` plans and applies
# it, and then changes the version.

berth {
  required_version = ">= 0.1"
  stack            = "shop"
  namespace        = "shop"
}

variable "release" {
  type        = string
  default     = "1"
  description = "Version of the images."
}

variable "replicas" {
  type    = number
  default = 4

  validation {
    condition     = var.replicas >= 2
    error_message = "The shop needs two front ends at least."
  }
}

variable "db_password" {
  type      = string
  default   = "correct horse battery staple"
  sensitive = true
}

locals {
  front = { app = "shop", tier = "front" }
  stock = { app = "shop", tier = "stock" }
}

secret "db" {
  data = { password = var.db_password }
}

config_map "web" {
  data = {
    "greeting.txt" = file("${path.module}/greeting.txt")
  }
}

deployment "stock" {
  replicas = 2

  pod {
    labels = local.stock
    grace  = "5s"

    container "stock" {
      image   = "shop/web:1"
      command = ["/web", "stock"]
      pull    = "never"

      port "http" { port = 8080 }

      resources {
        cpu    = "50m"
        memory = "32Mi"
      }

      readiness {
        period = "500ms"
        http {
          path = "/healthz"
          port = "http"
        }
      }
    }
  }
}

service "stock" {
  selector = deployment.stock.pod.labels

  port "http" {
    port   = 80
    target = "http"
  }
}

deployment "web" {
  replicas = var.replicas

  update {
    surge             = 1
    unavailable       = 0
    min_ready_time    = "1s"
    progress_deadline = "1m"
  }

  pod {
    labels = local.front
    grace  = "5s"

    spread { over = "zone" }

    init "check" {
      image   = "shop/web:${var.release}"
      command = ["/web", "check", "/etc/shop/greeting.txt"]
      pull    = "never"

      mount "config" { path = "/etc/shop" }
    }

    container "web" {
      image   = "shop/web:${var.release}"
      command = ["/web", "web"]
      pull    = "never"

      env = {
        STOCK       = "http://${service.stock.host}:80"
        DB_PASSWORD = secret.db.data.password
      }

      port "http" { port = 8080 }

      resources {
        cpu    = "50m"
        memory = "32Mi"

        limits { memory = "128Mi" }
      }

      readiness {
        period = "500ms"
        http {
          path = "/healthz"
          port = "http"
        }
      }

      mount "config" {
        path      = "/etc/shop"
        read_only = true
      }
    }

    volume "config" { config_map = config_map.web.name }
  }
}

service "web" {
  selector = deployment.web.pod.labels

  port "http" {
    port   = 80
    target = "http"
  }
}

# The entrance: every node that serves ingresses answers for any host name; a shop
# in the world would say host = "shop.example" and tls { … } here.
ingress "shop" {
  path "/" {
    service = service.web.name
    port    = "http"
  }

  path "/stock" {
    service      = service.stock.name
    port         = "http"
    strip_prefix = true
  }
}

output "host" {
  value       = service.web.host
  description = "Name of the front end inside the cluster."
}
