# Work that is done once: bare pods that end, one for each input. A pod that
# succeeds stays listed with its log until the configuration lets go of it.
#
#   berth -C examples/batch-pod apply
#   berth wait pod/report-north && berth logs report-north

variable "regions" {
  type    = set(string)
  default = ["north", "south"]
}

pod "report" {
  for_each = var.regions
  labels   = { app = "report" }

  restart = "on_failure" # try again, with a growing pause, until it succeeds

  container "report" {
    image   = "busybox:1.37"
    command = ["sh", "-c", "echo counting ${each.key}; sleep 2; echo done"]

    resources {
      cpu    = "100m"
      memory = "32Mi"
    }
  }
}

# This one runs once whatever comes of it.
pod "announce" {
  restart    = "never"
  depends_on = [pod.report]

  container "announce" {
    image   = "busybox:1.37"
    command = ["echo", "the reports of ${join(", ", var.regions)} are written"]
  }
}
