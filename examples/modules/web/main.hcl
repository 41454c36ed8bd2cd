# A website: what it is asked for are variables, what it answers are outputs.

variable "namespace" {
  type    = string
  default = "default"
}

variable "replicas" {
  type    = number
  default = 1
  validation {
    condition     = var.replicas >= 1
    error_message = "A site needs one server at least."
  }
}

variable "greeting" {
  type    = string
  default = "Hello"
}

config_map "page" {
  namespace = var.namespace
  data      = { "index.html" = templatefile("${path.module}/index.html", { greeting = var.greeting }) }
}

deployment "web" {
  namespace = var.namespace
  replicas  = var.replicas
  pod {
    labels = { app = "web" }
    container "web" {
      image   = "docker.io/library/busybox:1.36"
      command = ["httpd", "-f", "-p", "8080", "-h", "/www"]
      port "http" {
        port = 8080
      }
      mount "page" {
        path      = "/www"
        read_only = true
      }
    }
    volume "page" {
      config_map = config_map.page.name
    }
  }
}

service "web" {
  namespace = var.namespace
  selector  = deployment.web.pod.labels
  port "http" {
    port   = 80
    target = "http"
  }
}

output "host" {
  description = "Where the site answers inside the cluster."
  value       = service.web.host
}
