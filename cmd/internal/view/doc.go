// Package view prints: plans, forecasts, progress, diagnostics, tables; for
// people in Terraform's symbols and sentences, for machines as JSON. It takes
// data and writes to an io.Writer. It never fetches, never asks, never exits,
// and holds no secret: sensitive values reach it by digest and leave it as
// "(sensitive value)".
package view
