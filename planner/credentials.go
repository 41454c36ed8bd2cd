package planner

import (
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// credentials finds secrets that checks are to be asked with and that will not be
// there. What a rollback or a restore brings back is only warned of: the way back has
// no checks, and must not be refused for one.
func (c *check) credentials(p *object.Plan) {
	severity := object.SeverityError
	if p.Target != 0 || p.Restore != nil {
		severity = object.SeverityWarning
	}
	for i := range p.Changes {
		d, ok := p.Changes[i].After.Object.(*object.Deployment)
		if !ok {
			continue
		}
		for _, k := range d.Credentials() {
			s, ok := c.after.get(k.Secret).(*object.Secret)
			if !ok {
				c.say(severity, d.Ref(), k.Path, "No such secret", "There is no secret %s in the namespace %s, and the check could not be asked. Create it, or take out %s.", k.Secret.Name, d.Namespace, k.SecretKey)
				continue
			}
			if _, ok := s.Spec.Data[k.Key]; !ok {
				c.say(severity, d.Ref(), k.Path, "No such key", "The secret %s has no key %q, and the check could not be asked. Add it, or take out %s.", k.Secret.Name, k.Key, k.SecretKey)
			}
		}
	}
}

// onlyAsks reports whether an object needs a secret for its checks and for nothing else.
func onlyAsks(o object.Object, secret object.Ref) bool {
	d, ok := o.(*object.Deployment)
	return ok && slices.ContainsFunc(d.Credentials(), func(k object.Credential) bool { return k.Secret == secret }) &&
		!slices.Contains(d.Spec.Pod.ReadRefs(d.Namespace), secret)
}

// whoAsks names the deployments whose checks are asked with a secret: that rolls none
// of them.
func (d *differ) whoAsks(secret object.Ref) string {
	by := d.askedBy[secret]
	if len(by) == 0 {
		return ""
	}
	return "; checks of " + strings.Join(by, ", ") + " ask with it from their next measurement"
}
