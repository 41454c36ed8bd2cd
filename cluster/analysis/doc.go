// Package analysis takes the measurements of checks that need more than the state of
// the cluster: it asks URLs and Prometheus servers, and knows what the ingresses have
// answered. Answers come out as measurements, judged by the check's own conditions;
// who calls it writes them into the state, and only the state says which check is due
// and what its counts mean. The caller opens the secrets that a question carries, and
// no measurement tells them. It starts no goroutine and must not know of consensus: what
// it remembers can be lost with any leader.
package analysis
