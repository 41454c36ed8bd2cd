# One module, used twice: a website per region, and a front page that knows both.

berth {
  stack = "sites"
}

locals {
  sites = {
    eu = { replicas = 2, greeting = "Hello from Europe" }
    us = { replicas = 1, greeting = "Hello from America" }
  }
}

namespace "site" {
  for_each = local.sites
}

# The instances give their objects the same names; a namespace of its own keeps
# each apart.
module "site" {
  source   = "./web"
  for_each = local.sites

  namespace = namespace.site[each.key].name
  replicas  = each.value.replicas
  greeting  = each.value.greeting
}

# It starts after the sites that it points to: a reference orders the rollout,
# through modules too.
pod "visitor" {
  restart = "never"
  container "ask" {
    image   = "docker.io/library/busybox:1.36"
    command = ["wget", "-qO-", "http://${module.site["eu"].host}"]
  }
}

output "hosts" {
  value = { for region, site in module.site : region => site.host }
}
