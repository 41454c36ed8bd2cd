# What the shop promises, held against its configuration without a cluster:
#
#   berth -C examples/shop test

node "n" {
  count  = 3
  cpu    = "2"
  memory = "4Gi"
  zone   = element(["a", "b", "c"], count.index)
}

run "the first apply" {
  command = "apply"

  assert {
    condition     = plan.outcome == "healthy" && length(plan.unplaced) == 0
    error_message = "The shop does not come up."
  }

  assert {
    condition     = length(plan.deployment["web"].nodes) == 3
    error_message = "The front end has to stand in every zone."
  }

  assert {
    condition     = output.host == service.web.host
    error_message = "The output is to name the front end."
  }
}

run "the same again" {
  assert {
    condition     = plan.add + plan.change + plan.destroy == 0
    error_message = "A second apply has nothing to do."
  }
}

run "a new release" {
  command = "apply"

  variables {
    release = "2"
  }

  assert {
    condition     = plan.deployment["web"].min_ready >= var.replicas
    error_message = "The front end rolls without losing a pod."
  }

  assert {
    condition     = plan.changes["deployment.web"].fields["pod.container[\"web\"].image"].after == "shop/web:2"
    error_message = "The release is the tag of the image."
  }

  assert {
    condition     = alltrue([for s in plan.timeline : s.workload != "deployment.stock"])
    error_message = "The stock service has nothing to do with it."
  }
}

run "a node is lost" {
  lose = ["n-1"]

  assert {
    condition     = plan.deployment["web"].min_ready >= 2 && plan.deployment["stock"].min_ready >= 1
    error_message = "The shop has to survive any one node."
  }

  assert {
    condition     = length([for node in values(plan.placements) : node if node == "n-1"]) == 0
    error_message = "Nothing starts on a lost node."
  }
}

run "a node is drained" {
  drain = ["n-2"]

  assert {
    condition     = plan.deployment["web"].min_ready >= 3
    error_message = "A drain takes one front end at a time."
  }
}

run "too few front ends" {
  variables {
    replicas = 1
  }

  expect_failures = [var.replicas]
}
