package object

// Retry has a rollout tried again that failed or was given up: the same version,
// with new pods in place of those that fail. It says why if there is nothing to try.
func (d *Deployment) Retry() error {
	st := d.Status
	no := func(message, hint string) error {
		return &Error{Code: CodeInvalid, Ref: d.Ref(), Message: message, Hint: hint}
	}
	name := d.Named()
	switch {
	case d.Spec.Paused:
		return no("is paused by hand and has not failed", "Go on with: berth rollout resume "+name)
	case st.Reason == ReasonPromise:
		return no("waits because its next step would break the promise of its plan", "Go on all the same with: berth rollout resume "+name)
	case st.Phase == RolloutProgressing:
		return no("is under way and has not failed", "Follow it with: berth rollout status "+name)
	case st.Reason == "" || st.Phase != RolloutFailed && st.Phase != RolloutPaused:
		return no("has no rollout that failed", "What a failed revision changed has been put back: apply it again with berth apply. To replace the pods as they are: berth rollout restart "+name)
	}
	d.Spec.Retries++
	if d.Spec.Aborted == st.Set {
		d.Spec.Aborted, d.Spec.Promoted = "", "" // its steps begin again
	}
	return nil
}

// Named is how commands are told the deployment: with its namespace, unless that
// is the default one.
func (d *Deployment) Named() string {
	if d.Namespace == DefaultNamespace {
		return d.Name
	}
	return "-n " + d.Namespace + " " + d.Name
}
