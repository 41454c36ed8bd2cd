package view

import (
	"fmt"
	"io"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func TestExplanation(t *testing.T) {
	e := &object.Explanation{Asked: "web-7f9c-0", Pod: object.Ref{Kind: object.KindPod, Namespace: "shop", Name: "web-7f9c-0"}, At: object.Duration(3_250_000_000), Best: "n2",
		Summary: "5 of 32 nodes fit; it goes to n2", Candidates: []object.Candidate{
			{Node: "n2", Fits: true, Score: 149_400, Parts: []object.ScorePart{{What: "free", Points: 49_400, Detail: "with it cpu 100m of 4, memory 64Mi of 8Gi"}, {What: "constraint disk = ssd", Points: 100_000}}},
			{Node: "n10", Fits: true, Score: -251_250, Parts: []object.ScorePart{{What: "free", Points: 48_750, Detail: "with it cpu 200m of 4, memory 128Mi of 8Gi"}, {What: "spread over zone", Points: -200_000, Detail: "1 pod of its set in a"}, {What: "spread over node", Points: -100_000, Detail: "1 pod of its set on it"}}},
			{Node: "n3", Fits: true},
			{Node: "n4", Fits: true, Score: -260_000},
			{Node: "n5", Fits: true, Score: -300_500},
			{Node: "n6", Fails: []string{"taint gpu", "memory (asks 64Mi, 12Mi free)"}},
			{Node: "n7", Fails: []string{"node lost"}},
			{Node: "n8", Fails: []string{"taint gpu", "memory (asks 64Mi, 12Mi free)"}},
		}}
	for i := range 24 {
		e.Candidates = append(e.Candidates, object.Candidate{Node: fmt.Sprintf("x%02d", i), Fails: []string{fmt.Sprintf("cpu (asks 100m, %dm free)", i)}})
	}
	golden(t, "explanation.txt", func(w io.Writer) error { return Explanation(w, e, Options{}) })
}
