package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// TestAnInitContainerThatIsDoneIsNotBlamed: the story once named the init
// container that had ended well, and so lost the last lines of the one that
// crashed.
func TestAnInitContainerThatIsDoneIsNotBlamed(t *testing.T) {
	p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Name: "web-0"}, Spec: object.PodSpec{Node: "n1"}}
	p.Status = object.PodStatus{Phase: object.PodRunning, Reason: object.ReasonCrashLoop, Containers: []object.ContainerStatus{
		{Name: "check", State: "exited", Reason: object.ReasonCompleted, Message: "ended with exit code 0"},
		{Name: "sidecar", State: "running"},
		{Name: "web", State: "waiting", Reason: object.ReasonCrashLoop, Message: "ended with exit code 1", ExitCode: 1, Restarts: 2, LastLog: []string{"fatal: no data"}},
	}}
	f := story(p)
	if !strings.Contains(f.message, "pod web-0 on n1, container web: ended with exit code 1") || !slices.Equal(f.log, []string{"fatal: no data"}) {
		t.Errorf("story = %q with the last lines %q", f.message, f.log)
	}
}

// The node begins its message with the container's name; the story names it, too,
// and says it once.
func TestStoryNamesTheContainerOnce(t *testing.T) {
	p := &object.Pod{Meta: object.Meta{Name: "web-0"}, Spec: object.PodSpec{Node: "n1"}, Status: object.PodStatus{Phase: object.PodFailed, Reason: "error", Message: "container i: ended with exit code 7",
		Containers: []object.ContainerStatus{{Name: "i", State: "exited", ExitCode: 7, Reason: "error", Message: "ended with exit code 7"}}}}
	if got, want := story(p).message, "pod web-0 on n1, container i: ended with exit code 7"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
