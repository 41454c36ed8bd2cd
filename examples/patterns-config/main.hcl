# Four ways of giving configuration to a container, and what a change of it does:
# files of a config map, a whole config map as environment, one key of a secret,
# and plain text. `berth plan` says which pods a changed value rolls.
#
#   berth -C examples/patterns-config plan --var api_key=opensesame

variable "api_key" {
  type        = string
  sensitive   = true
  description = "It is sealed on the masters and shown nowhere."
}

variable "log_level" {
  type    = string
  default = "info"

  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.log_level)
    error_message = "log_level is debug, info, warn or error."
  }
}

# Each file below conf/ becomes a key, so a new file needs no change here.
config_map "files" {
  data = {
    for name in fileset("${path.module}/conf", "*") : name => file("${path.module}/conf/${name}")
  }
  reload = "restart" # the default: a change rolls the pods that read it
}

config_map "settings" {
  data = {
    LOG_LEVEL = var.log_level
    CACHE_TTL = "30s"
  }
}

# Pods that run keep what they started with; new pods see the change.
config_map "banner" {
  data   = { "banner.txt" = "Closed on Sundays.\n" }
  reload = "none"
}

secret "api" {
  data = { key = var.api_key }
}

deployment "app" {
  replicas = 2

  pod {
    labels = { app = "config-patterns" }

    container "app" {
      image   = "busybox:1.37"
      command = ["sh", "-c", "env; cat /etc/app/* /etc/banner/banner.txt; sleep infinity"]

      env = {
        MODE    = "demo"
        API_KEY = secret.api.data.key
      }

      env_from { config_map = config_map.settings.name }

      mount "files" {
        path      = "/etc/app"
        read_only = true
      }

      mount "banner" {
        path      = "/etc/banner"
        read_only = true
      }
    }

    volume "files" { config_map = config_map.files.name }
    volume "banner" { config_map = config_map.banner.name }
  }
}
