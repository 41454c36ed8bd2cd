package view

import (
	_ "embed"
	"io"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

//go:embed plan.schema.json
var planSchema []byte

// PlanSchema is the JSON Schema of PlanJSON.
func PlanSchema() []byte { return planSchema }

type jsonPlan struct {
	Format     string                 `json:"format_version"`
	Version    string                 `json:"berth_version,omitempty"`
	Stack      string                 `json:"stack"`
	Revision   int                    `json:"revision"`
	Cause      string                 `json:"cause"`
	Index      uint64                 `json:"index"`
	Timestamp  string                 `json:"timestamp,omitempty"`
	Source     object.Source          `json:"source,omitzero"`
	Applyable  bool                   `json:"applyable"`
	Complete   bool                   `json:"complete"`
	Errored    bool                   `json:"errored"`
	Waves      int                    `json:"waves"`
	Operation  *object.Operation      `json:"operation,omitempty"`
	Restore    *jsonRestore           `json:"restore,omitempty"`
	Changes    []jsonChange           `json:"resource_changes"`
	Planned    jsonValues             `json:"planned_values"`
	Outputs    map[string]jsonOutput  `json:"output_changes,omitempty"`
	Summary    jsonSummary            `json:"summary"`
	Forecast   jsonForecast           `json:"forecast"`
	Placement  []object.Placement     `json:"placement"`
	Unplaced   []object.Unplaced      `json:"unplaced"`
	Timeline   []object.ForecastStep  `json:"timeline"`
	Stays      []object.Placement     `json:"stays,omitempty"`
	Available  []object.Availability  `json:"availability"`
	Nodes      []object.NodePeak      `json:"nodes"`
	Namespaces []object.NamespacePeak `json:"namespaces"`
	Use        []object.NodeUse       `json:"use,omitempty"`
	Reach      []object.ReachChange   `json:"reachability"`
	ReachMore  int                    `json:"reachability_more,omitempty"`
	ReachCut   bool                   `json:"reachability_cut,omitempty"`
	Diagnostic object.Diagnostics     `json:"diagnostics,omitempty"`
	Images     []object.PinnedImage   `json:"images,omitempty"`
	Drift      []object.Drift         `json:"drift,omitempty"`
	Guards     object.Guards          `json:"guards,omitzero"`
	Broken     []object.Breach        `json:"broken_guards,omitempty"`
	Verdicts   []object.PolicyVerdict `json:"policy_verdicts,omitempty"`
	Freezes    []object.Frozen        `json:"freezes,omitempty"`
	Expires    string                 `json:"expires,omitempty"`
	Explained  *object.Explanation    `json:"explanation,omitempty"`
}

// jsonValues are the objects that change as they will be, and all outputs. What
// does not change is not in a plan.
type jsonValues struct {
	Outputs map[string]jsonValue `json:"outputs,omitempty"`
	Root    jsonModule           `json:"root_module"`
}

type jsonValue struct {
	Sensitive bool `json:"sensitive"`
	Value     any  `json:"value,omitempty"`
}

type jsonModule struct {
	Resources []jsonResource `json:"resources"`
}

type jsonResource struct {
	Address   string      `json:"address"`
	Mode      string      `json:"mode"`
	Type      object.Kind `json:"type"`
	Namespace string      `json:"namespace,omitempty"`
	Name      string      `json:"name"`
	Values    any         `json:"values"`
	Sensitive any         `json:"sensitive_values"`
}

type jsonSummary struct {
	Add    int `json:"add"`
	Change int `json:"change"`
	Remove int `json:"remove"`
}

type jsonForecast struct {
	Outcome    string             `json:"outcome"`
	Reason     string             `json:"reason,omitempty"`
	Duration   object.Duration    `json:"duration"`
	Start      int                `json:"pods_started"`
	Stop       int                `json:"pods_stopped"`
	Unchanged  int                `json:"pods_unchanged"`
	PeakCPU    int                `json:"peak_cpu_percent"`
	PeakMemory int                `json:"peak_memory_percent"`
	Starts     []object.StartTime `json:"start_times,omitempty"`
}

type jsonChange struct {
	Address   string             `json:"address"`
	Stack     string             `json:"stack,omitempty"` // in a plan of several
	Mode      string             `json:"mode"`
	Type      object.Kind        `json:"type"`
	Namespace string             `json:"namespace,omitempty"`
	Name      string             `json:"name"`
	Previous  string             `json:"previous_address,omitempty"`
	Wave      int                `json:"wave"`
	Change    jsonBeforeAfter    `json:"change"`
	Reason    string             `json:"action_reason,omitempty"`
	Fields    []object.FieldDiff `json:"fields"`
}

type jsonBeforeAfter struct {
	Actions         []string       `json:"actions"`
	Before          any            `json:"before"`
	After           any            `json:"after"`
	AfterUnknown    any            `json:"after_unknown"` // always {}: values are chosen when planning
	BeforeSensitive any            `json:"before_sensitive"`
	AfterSensitive  any            `json:"after_sensitive"`
	ReplacePaths    []string       `json:"replace_paths,omitempty"`
	Importing       *jsonImporting `json:"importing,omitempty"`
}

// jsonImporting says which object is imported.
type jsonImporting struct {
	ID string `json:"id"`
}

type jsonOutput struct {
	Actions         []string `json:"actions"`
	Before          any      `json:"before"`
	After           any      `json:"after"`
	AfterUnknown    bool     `json:"after_unknown"`
	BeforeSensitive bool     `json:"before_sensitive"`
	AfterSensitive  bool     `json:"after_sensitive"`
}

// PlanJSON prints a plan in the shape of `terraform show -json`, with placement,
// timeline and availability beside it. PlanSchema describes it.
func PlanJSON(w io.Writer, plan *object.Plan) error {
	f := &plan.Forecast
	n := Count(plan)
	out := jsonPlan{
		Format: plan.Format, Version: plan.Version, Stack: plan.Stack, Revision: plan.Base + 1, Cause: plan.Cause, Index: plan.Index, Source: plan.Source,
		Applyable: !plan.Empty() && (plan.Operation == nil || plan.Operation.Applicable()), Operation: plan.Operation, Explained: plan.Explanation, Stays: f.Stays, Complete: f.Outcome != "unfinished", Errored: f.Outcome == "failed", Waves: plan.Waves,
		Changes: []jsonChange{}, Summary: jsonSummary{n.Added, n.Changed, n.Destroyed},
		Forecast:  jsonForecast{f.Outcome, f.Reason, f.Duration, f.Start, f.Stop, f.Unchanged, f.PeakCPU, f.PeakMemory, f.Starts},
		Placement: orEmpty(f.Placements), Unplaced: orEmpty(f.Unplaced), Timeline: orEmpty(f.Steps), Available: orEmpty(f.Lowest), Nodes: orEmpty(f.Nodes), Namespaces: orEmpty(f.Namespaces), Use: f.Use,
		Reach: orEmpty(f.Reach), ReachMore: f.ReachMore, ReachCut: f.ReachCut,
		Diagnostic: plan.Warnings, Planned: jsonValues{Root: jsonModule{Resources: []jsonResource{}}},
	}
	if plan.Operation != nil || plan.Restore != nil {
		out.Revision = 0 // it makes none, or several
	}
	out.Restore = restoreJSON(plan)
	if !plan.Time.IsZero() {
		out.Timestamp = plan.Time.UTC().Format("2006-01-02T15:04:05Z")
	}
	out.Verdicts, out.Freezes = plan.Verdicts, plan.Freezes
	out.Guards, out.Broken, out.Drift, out.Images = plan.Guards, plan.Broken, plan.Drift, plan.Images
	if !plan.Expires.IsZero() {
		out.Expires = plan.Expires.UTC().Format("2006-01-02T15:04:05Z")
	}
	if out.Forecast.Outcome == "" {
		out.Forecast.Outcome = "unfinished"
		out.Complete = plan.Empty()
	}
	for i := range plan.Changes {
		c := &plan.Changes[i]
		x := changeJSON(c)
		if plan.Restore != nil {
			x.Stack = c.Stack()
		}
		out.Changes = append(out.Changes, x)
		if !c.After.IsZero() {
			out.Planned.Root.Resources = append(out.Planned.Root.Resources, jsonResource{x.Address, x.Mode, x.Type, x.Namespace, x.Name, x.Change.After, x.Change.AfterSensitive})
		}
	}
	for name, o := range plan.Outputs {
		if out.Planned.Outputs == nil {
			out.Planned.Outputs = map[string]jsonValue{}
		}
		out.Planned.Outputs[name] = jsonValue{Sensitive: o.Sensitive, Value: o.Value}
	}
	out.Outputs = outputsJSON(plan.OutputChanges)
	return JSON(w, out)
}

func changeJSON(c *object.PlannedChange) jsonChange {
	x := jsonChange{Address: c.Address, Mode: "managed", Type: c.Ref.Kind, Namespace: c.Ref.Namespace, Name: c.Ref.Name, Wave: c.Wave, Reason: c.Reason, Fields: orEmpty(c.Fields), Previous: c.Previous}
	x.Change = jsonBeforeAfter{Actions: c.Actions, AfterUnknown: map[string]any{}}
	x.Change.Before, x.Change.BeforeSensitive = configuration(c.Before.Object)
	x.Change.After, x.Change.AfterSensitive = configuration(c.After.Object)
	if c.Reason == object.ReasonImport {
		x.Change.Importing = &jsonImporting{c.Ref.String()}
	}
	for _, fd := range c.Fields {
		if fd.Replaces {
			x.Change.ReplacePaths = append(x.Change.ReplacePaths, fd.Path)
		}
	}
	return x
}

func outputsJSON(changes map[string]object.OutputChange) map[string]jsonOutput {
	if len(changes) == 0 {
		return nil
	}
	out := map[string]jsonOutput{}
	for name, c := range changes {
		out[name] = jsonOutput{Actions: c.Actions, Before: c.Before, After: c.After, BeforeSensitive: c.Sensitive, AfterSensitive: c.Sensitive}
	}
	return out
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// configuration is an object as its block says it, by attribute names, and where
// it is sensitive. Labelled blocks are objects by label, others lists.
func configuration(o object.Object) (values, sensitive any) {
	if o == nil {
		return nil, false
	}
	v, s := fill(object.Compare(nil, o))
	v["name"] = o.Head().Name
	if ns := o.Head().Namespace; ns != "" {
		v["namespace"] = ns
	}
	return v, s
}

func fill(d *object.Difference) (values, sensitive map[string]any) {
	values, sensitive = map[string]any{}, map[string]any{}
	for _, x := range d.Parts {
		switch x.Form {
		case object.FormBlock:
			v, s := fill(x)
			switch {
			case x.Label != "":
				put(values, x.Name, x.Label, v)
				if len(s) > 0 {
					put(sensitive, x.Name, x.Label, s)
				}
			case strings.HasSuffix(x.Path, "]"):
				list, _ := values[x.Name].([]any)
				values[x.Name] = append(list, v)
			default:
				values[x.Name] = v
				if len(s) > 0 {
					sensitive[x.Name] = s
				}
			}
		case object.FormMap:
			v, s := fill(x)
			values[x.Name] = v
			if len(s) > 0 {
				sensitive[x.Name] = s
			}
		case object.FormList:
			var list []any
			for _, e := range x.Parts {
				list = append(list, e.After)
			}
			values[x.Name] = list
		default:
			values[x.Name] = x.After
			if x.Sensitive {
				sensitive[x.Name] = true
			}
		}
	}
	return values, sensitive
}

func put(m map[string]any, name, label string, v any) {
	inner, _ := m[name].(map[string]any)
	if inner == nil {
		inner = map[string]any{}
		m[name] = inner
	}
	inner[label] = v
}
