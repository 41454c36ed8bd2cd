// Package planner turns what people want into a plan: Diff compares desired
// objects with those in force and orders the changes in waves; Forecast
// rehearses the plan with the masters' own controllers and scheduler on a fork
// of their state, in virtual time, with modelled nodes.
//
// It is pure: no clock, no goroutine, no disk, no network; the same inputs give
// the same bytes. The command line calls Diff with what it read from the
// masters, the leader calls Forecast with all it knows; package view prints the
// result.
package planner
