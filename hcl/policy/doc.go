// Package policy turns the text of policy files into rules, and judges by them
// what a plan or another write would change.
//
// Its one job is text -> rules -> verdicts; the command line and the masters use
// the same rules. It reads no file, clock or network and calls only functions
// that do not either, for masters evaluate what people wrote. It knows no
// cluster and refuses nothing by itself: cmd/berth hands it to the masters as a
// function, and what a verdict means is for whoever asks.
package policy
