# Who may talk to whom: a front, its API, a database, and a scraper of another
# namespace. Everything starts closed, and each policy opens one way.
#
#   berth -C examples/network plan         # the end of the plan says who reaches whom
#   berth -C examples/network apply
#   berth -C examples/network apply --var open=true
#
# The last plan ends with "+ api -> outside:443 newly allowed". docs/network.md has
# the rules of the game.

berth {
  stack     = "network"
  namespace = "bank"
}

variable "open" {
  type        = bool
  default     = false
  description = "Let the API reach the world outside."
}

# Closed in both directions: packets to and from the pods of this namespace pass
# only where one of the policies below says so. Without `isolate` a namespace is
# open, and a policy closes just the pods that it selects.
namespace "bank" {
  isolate = ["ingress", "egress"]
}

namespace "watch" {
  labels = { role = "monitoring" }
}

# Names need no policy: a pod may always ask the resolver of its node. Nor do
# probes: a node always reaches its own pods.

# The front is for everybody: for the world, whose addresses a node port hides, it
# is the nodes that call (`nodes`), and so it is with an ingress.
network_policy "front" {
  selector = { app = "front" }

  ingress {
    from { nodes = true }

    from { cidr = "0.0.0.0/0" }

    port { port = "http" } # the name that the container gives to its port
  }

  egress {
    to { selector = { app = "api" } }

    port { port = "http" }
  }
}

# Policies add up. This one opens the API to the front and to whoever monitors.
network_policy "api" {
  selector = { app = "api" }

  ingress {
    from { selector = { app = "front" } }

    # Pods of other namespaces, by the labels of these. Everything in one `from`
    # narrows: scrapers, and only in namespaces that monitor.
    from {
      selector           = { app = "scraper" }
      namespace_selector = { role = "monitoring" }
    }

    port { port = "http" }
  }

  egress {
    to { selector = { app = "db" } }

    port { port = 80 }
  }
}

# Both ends have to agree: the API may call the database (above), and the database
# answers the API (here). It calls nobody: without an egress rule of its own the
# namespace's isolation holds.
network_policy "db" {
  selector = { app = "db" }

  ingress {
    from { selector = { app = "api" } }

    port { port = 80 }
  }
}

# The world, but not the networks of the house.
network_policy "api-out" {
  count    = var.open ? 1 : 0
  selector = { app = "api" }

  egress {
    to {
      cidr   = "0.0.0.0/0"
      except = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    }

    port { port = 443 }
  }
}

deployment "front" {
  pod {
    labels = { app = "front" }

    container "web" {
      image = "nginx:1.27"

      port "http" { port = 80 }
    }
  }
}

service "front" {
  type     = "node_port"
  selector = { app = "front" }

  port "http" { port = 80 }
}

deployment "api" {
  pod {
    labels = { app = "api" }

    container "web" {
      image = "nginx:1.27"

      port "http" { port = 80 }
    }
  }
}

service "api" {
  selector = { app = "api" }

  port "http" { port = 80 }
}

deployment "db" {
  pod {
    labels = { app = "db" }

    container "web" {
      image = "nginx:1.27"

      port "http" { port = 80 }
    }
  }
}

service "db" {
  selector = { app = "db" }

  port "http" { port = 80 }
}

deployment "scraper" {
  namespace = namespace.watch.name

  pod {
    labels = { app = "scraper" }

    container "curl" {
      image   = "busybox:1.37"
      command = ["sh", "-c", "while sleep 10; do wget -qO- http://api.bank; done"]
    }
  }
}
