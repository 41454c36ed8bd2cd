# What the pipeline deploys. A real one stands in a directory of its own and
# BERTH_DIR names it.

variable "image" {
  type    = string
  default = "nginx:1.29"
}

config_map "page" {
  data = { "index.html" = "<h1>Deployed by the pipeline</h1>\n" }
}

deployment "web" {
  replicas = 2

  pod {
    labels = { app = "web" }

    container "web" {
      image = var.image
      port "http" { port = 80 }
      readiness {
        http { port = "http" }
      }
      mount "page" { path = "/usr/share/nginx/html" }
    }
    volume "page" { config_map = config_map.page.name }
  }
}

service "web" {
  selector = deployment.web.pod.labels
  port "http" { port = 80 }
}
