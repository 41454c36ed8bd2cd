# Three ways to put several containers into one pod. They share localhost, the
# pod's address and its volumes, start and stop together, and are on one node.
#
#   make demo                       # a cluster, and the image shop/web:1
#   berth -C examples/patterns apply
#   berth port-forward service/sidecar 8080:80

berth { stack = "patterns" }

locals {
  image = "shop/web:1"
}
