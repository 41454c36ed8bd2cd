# The smallest useful configuration: three copies of a web server.
#
#   berth -C examples/hello plan
#   berth -C examples/hello apply

deployment "hello" {
  replicas = 3

  pod {
    labels = { app = "hello" }

    container "web" {
      image = "nginx:1.29-alpine"

      port "http" { port = 80 }

      readiness {
        http { port = "http" }
      }
    }
  }
}
