variable "password" {
  type      = string
  default   = "s3cret"
  sensitive = true
}

locals {
  greeting = "Hello, $${name}!"
}

secret "db" {
  data = { password = var.password }
}
