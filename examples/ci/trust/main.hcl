# Whose jobs may log in, as what. An admin applies this once, from a machine of
# their own: berth -C examples/ci/trust apply

variable "repository" {
  type        = string
  description = "OWNER/REPO whose workflow plans and deploys."
  default     = "acme/shop"
}

identity_provider "github" {
  issuer   = "https://token.actions.githubusercontent.com"
  audience = "berth"

  # The main branch deploys.
  login "deploy" {
    role       = "admin"
    claims     = { repository = var.repository, ref = "refs/heads/main" }
    name_claim = "actor"
    ttl        = "1h"
  }

  # Every pull request plans. A planner writes nothing and sees no secret.
  login "plan" {
    role       = "planner"
    claims     = { repository = var.repository }
    name_claim = "actor"
    ttl        = "15m"
  }
}

# The same for GitLab CI:
#
# identity_provider "gitlab" {
#   issuer   = "https://gitlab.com"
#   audience = "berth"
#
#   login "deploy" {
#     role       = "admin"
#     claims     = { project_path = "acme/shop", ref = "main", ref_type = "branch", ref_protected = "true" }
#     name_claim = "user_login"
#   }
#   login "plan" {
#     role   = "planner"
#     claims = { project_path = "acme/shop" }
#   }
# }
