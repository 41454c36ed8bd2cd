package object

import "fmt"

// Healthy reports whether an object is as its specification wants it, and says
// in a few words how far it is: what a revision's waves and `berth wait` wait
// for. Kinds that nothing carries out are healthy at once.
func Healthy(o Object) (ok bool, how string) {
	switch x := o.(type) {
	case *Deployment:
		how = fmt.Sprintf("%s, %d/%d ready, %d of the wanted version", x.Status.Phase, x.Status.Ready, x.Spec.Replicas, x.Status.Updated)
		if x.Status.Message != "" {
			how += ": " + x.Status.Message
		}
		return x.Status.Observed == x.Version && x.Status.Phase == RolloutStable, how
	case *ReplicaSet:
		how = fmt.Sprintf("%d/%d ready", x.Status.Ready, x.Spec.Replicas)
		return x.Status.Observed == x.Version && x.Status.Ready >= x.Spec.Replicas, how
	case *Pod:
		how = string(x.Status.Phase)
		if x.Status.Message != "" {
			how += ": " + x.Status.Message
		}
		return x.Status.Ready || x.Status.Phase == PodSucceeded, how
	case *Node:
		how = string(x.Status.Condition)
		if x.Status.Message != "" {
			how += ": " + x.Status.Message
		}
		return x.Status.Condition == NodeReady, how
	case *Revision:
		how = string(x.Status.Phase)
		if x.Status.Message != "" {
			how += ": " + x.Status.Message
		}
		return x.Status.Phase == RevisionHealthy, how
	}
	return true, "exists"
}
