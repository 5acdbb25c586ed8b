package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// seed is a valid object. The first of a resource also has its metadata changed.
type seed struct {
	name     string
	resource *resource
	object   any
	first    bool
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// readSeeds reads every seed of a directory. Each resource must have one.
func readSeeds(dir string, all []*resource, only string) ([]*seed, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var seeds []*seed
	count := map[*resource]int{}
	for _, file := range files {
		found, err := readFile(file, all)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, s := range found {
			count[s.resource]++
			s.first = count[s.resource] == 1
			s.name = fmt.Sprintf("%s#%d", strings.TrimSuffix(filepath.Base(file), ".yaml"), count[s.resource])
			if only == "" || only == s.resource.gvr.GroupResource().String() {
				seeds = append(seeds, s)
			}
		}
	}
	var missing []string
	for _, r := range all {
		if count[r] == 0 {
			missing = append(missing, r.gvr.String())
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no seed of\n  %s", strings.Join(missing, "\n  "))
	}
	if len(seeds) == 0 {
		return nil, fmt.Errorf("no seed of %s in %s", only, dir)
	}
	return seeds, nil
}

func readFile(file string, all []*resource) ([]*seed, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var seeds []*seed
	reader := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text))
	for {
		var raw json.RawMessage
		if err := reader.Decode(&raw); errors.Is(err, io.EOF) {
			return seeds, nil
		} else if err != nil {
			return nil, err
		}
		object, err := parse(raw)
		if err != nil {
			return nil, err
		}
		m, _ := object.(map[string]any)
		i := slices.IndexFunc(all, func(r *resource) bool {
			return r.gvk.GroupVersion().String() == m["apiVersion"] && r.gvk.Kind == m["kind"]
		})
		if i < 0 {
			return nil, fmt.Errorf("%v %v is not stored by a server without flags", m["apiVersion"], m["kind"])
		}
		seeds = append(seeds, &seed{resource: all[i], object: object})
	}
}

// trial is one seed under way.
type trial struct {
	*seed
	*recorder
	// asked is the seed as a request has it, stored and served what became of it.
	asked, stored, served struct {
		document int
		value    any
	}
	// old is the stored object, again what a client that read it sends.
	old, again runtime.Object
	kind       reflect.Type
	maps       []string
	seen       map[string]map[[32]byte]bool
	// reverted counts what back undid, kept what keep kept.
	reverted, kept map[string]int
	*plan
}

// plant makes the object of a seed, with its status, as a server would have it that has every gate on.
func plant(s *seed, number int) (*trial, error) {
	t := &trial{
		seed: s, recorder: &recorder{seed: number}, seen: map[string]map[[32]byte]bool{}, reverted: map[string]int{},
		kept: map[string]int{}, kind: reflect.TypeOf(newOf(s.resource)).Elem(),
	}
	t.maps = mapPlaces(t.kind)
	made, err := t.make(t.object)
	if err != nil {
		return nil, err
	}
	t.asked.value = t.object
	if t.stored.value, err = tree(made, t.resource.stored.GroupVersion()); err != nil {
		return nil, err
	}
	if t.served.value, err = tree(made, t.resource.gvk.GroupVersion()); err != nil {
		return nil, err
	}
	t.asked.document = t.document(t.asked.value)
	t.stored.document = t.document(t.stored.value)
	t.served.document = t.document(t.served.value)
	return t, nil
}

// try asks all cases of a seed that are planned.
func (t *trial) try(p *plan) error {
	t.plan = p
	var err error
	if t.old, err = t.resource.read(t.stored.value); err != nil {
		return err
	}
	body, err := json.Marshal(t.served.value)
	if err != nil {
		return err
	}
	if t.again, err = t.resource.decode(body); err != nil {
		return err
	}
	for _, c := range t.choose(t.name, "create", changesOf(t.object, t.kind, t.first)) {
		if err := t.create(c); err != nil {
			return fmt.Errorf("%s: %w", c.label, err)
		}
	}
	updates := changesOf(t.served.value, t.kind, t.first)
	for _, p := range t.resource.writable() {
		for _, c := range t.choose(t.name, p.target(), updates) {
			if err := t.update(p, c); err != nil {
				return fmt.Errorf("%s: %w", c.label, err)
			}
		}
	}
	return nil
}

// all are the numbers of the cases.
func (t *trial) all() []int {
	numbers := make([]int, len(t.cases))
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

// under asks cases once more, and returns what is said otherwise than by default.
func (t *trial) under(p pass, cases []int) ([]answer, error) {
	var found []answer
	for _, i := range cases {
		s, err := t.askAgain(t.cases[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.cases[i].Change, err)
		}
		if !s.is(t.cases[i].Said) {
			found = append(found, answer{Case: i, Under: p.Name, Said: s})
		}
	}
	return found, nil
}

// askAgain asks a case once more, of what is written of it.
func (t *trial) askAgain(r *record) (said, error) {
	body, err := json.Marshal(t.value(r.Object))
	if err != nil {
		return said{}, err
	}
	object, err := t.resource.decode(body)
	if err != nil {
		return said{}, err
	}
	if r.Old == nil {
		return t.ask(r, func() outcome { return t.resource.onCreate(object.DeepCopyObject()) })
	}
	old, err := t.resource.read(t.value(*r.Old))
	if err != nil {
		return said{}, err
	}
	parts := t.resource.writable()
	i := slices.IndexFunc(parts, func(p part) bool { return p.name == r.Subresource })
	return t.ask(r, func() outcome { return t.resource.onUpdate(parts[i], object.DeepCopyObject(), old.DeepCopyObject()) })
}

func newOf(r *resource) any {
	object, err := legacyscheme.Scheme.New(r.gvk)
	if err != nil {
		panic(err) // it is of the scheme
	}
	return object
}

// make runs the writes after which an object is stored: its creation, and an update of its status.
func (t *trial) make(value any) (runtime.Object, error) {
	r := t.resource
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	asked, err := r.decode(body)
	if err != nil {
		return nil, err
	}
	made := r.onCreate(asked.DeepCopyObject())
	if made.refused != nil {
		return nil, fmt.Errorf("upstream refuses it: %s %v", made.refused.Message, made.refused.Causes)
	}
	stored, err := r.restored(made.object)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(r.parts, func(p part) bool { return p.name == "status" })
	if m, _ := value.(map[string]any); i < 0 || m["status"] == nil {
		return stored, nil
	}
	setVersion(asked)
	updated := r.onUpdate(r.parts[i], asked, stored)
	if updated.refused != nil {
		return nil, fmt.Errorf("upstream refuses its status: %s %v", updated.refused.Message, updated.refused.Causes)
	}
	return r.restored(updated.object)
}

// isNew says whether an object has not been tried like this yet.
func (t *trial) isNew(how string, body []byte) bool {
	known := t.seen[how]
	if known == nil {
		known = map[[32]byte]bool{}
		t.seen[how] = known
	}
	sum := sha256.Sum256(body)
	if known[sum] {
		return false
	}
	known[sum] = true
	return true
}

func (t *trial) create(c change) error {
	value := c.apply(t.asked.value)
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	object, err := t.resource.decode(body)
	if err != nil || !t.isNew("create", body) {
		return nil // what cannot be decoded is for the codecs' own tests
	}
	if m, err := meta.Accessor(object); err != nil || m.GetName() == "" && m.GetGenerateName() != "" {
		return nil // the store generates a name before the strategy is asked
	}
	r := t.record("create", "", c)
	r.Object = variant{t.asked.document, c.edits}
	if err := t.close(r, func() outcome { return t.resource.onCreate(object.DeepCopyObject()) }); err != nil {
		return err
	}
	if r.Said.Refused != nil && r.Said.Refused.Reason == string(metav1.StatusReasonInvalid) {
		return t.keep(c, object)
	}
	return t.back(c, value)
}

// keep updates an object that would not be taken any more and stays as it is. Upstream forgives much of
// what was stored by older servers.
func (t *trial) keep(c change, object runtime.Object) error {
	if c.pair || c.metadata || !t.follows(t.kept, "update", c) {
		return nil
	}
	old, err := t.resource.forced(object)
	if err != nil {
		return nil // it cannot be stored
	}
	was, err := tree(old, t.resource.stored.GroupVersion())
	if err != nil {
		return nil
	}
	seen, err := tree(old, t.resource.gvk.GroupVersion())
	if err != nil {
		return nil
	}
	body, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	again, err := t.resource.decode(body)
	if err != nil {
		return nil
	}
	r := t.record("update", "", c)
	r.Change = "kept " + c.label
	r.Old = &variant{t.stored.document, difference(t.stored.value, was)}
	r.Object = variant{t.served.document, difference(t.served.value, seen)}
	whole := t.resource.writable()[0]
	return t.close(r, func() outcome { return t.resource.onUpdate(whole, again.DeepCopyObject(), old.DeepCopyObject()) })
}

// back undoes a change: the old object is the changed one, the new one the seed.
func (t *trial) back(c change, value any) error {
	if c.pair || c.metadata {
		return nil
	}
	old, err := t.make(value)
	if err != nil {
		return nil // the change is not valid
	}
	was, err := tree(old, t.resource.stored.GroupVersion())
	if err != nil {
		return err
	}
	edits := difference(t.stored.value, was)
	if len(edits) == 0 {
		return nil
	}
	for _, p := range t.resource.writable() {
		if !t.follows(t.reverted, p.target(), c) {
			continue
		}
		r := t.record("update", p.name, c)
		r.Change = "back from " + c.label
		r.Old = &variant{t.stored.document, edits}
		r.Object = variant{Document: t.served.document}
		run := func() outcome { return t.resource.onUpdate(p, t.again.DeepCopyObject(), old.DeepCopyObject()) }
		if err := t.close(r, run); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) update(p part, c change) error {
	if c.identity {
		return nil // whether that is the object meant is not the strategy's to say
	}
	value := c.apply(t.served.value)
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	object, err := t.resource.decode(body)
	if err != nil || !t.isNew("update/"+p.name, body) {
		return nil
	}
	r := t.record("update", p.name, c)
	r.Object = variant{t.served.document, c.edits}
	r.Old = &variant{Document: t.stored.document}
	return t.close(r, func() outcome { return t.resource.onUpdate(p, object.DeepCopyObject(), t.old.DeepCopyObject()) })
}

func (t *trial) record(verb, subresource string, c change) *record {
	gvr := t.resource.gvr
	return &record{
		Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Subresource: subresource, Verb: verb,
		Seed: t.name, Change: c.label,
	}
}

// close runs a case and notes the outcome.
func (t *trial) close(r *record, run func() outcome) error {
	var err error
	r.Said, err = t.ask(r, run)
	t.cases = append(t.cases, r)
	return err
}

// ask runs a case. Where there is more than one error it asks again, for the order may change.
func (t *trial) ask(r *record, run func() outcome) (said, error) {
	o := run()
	s := said{Refused: o.refused, Warnings: o.warnings}
	if o.object != nil {
		stored, err := tree(o.object, t.resource.stored.GroupVersion())
		if err != nil {
			s.Refused = &refusal{Code: 500, Reason: "InternalError", Message: err.Error()}
			return s, nil
		}
		s.Stored = &variant{t.stored.document, difference(t.stored.value, stored)}
	}
	// What was said before may come in the same order again by chance.
	if o.refused == nil || s.is(r.Said) {
		return s, nil
	}
	for range tries(t.maps, o.refused.Causes) {
		again := run()
		if again.refused == nil || !slices.Equal(again.refused.Causes, o.refused.Causes) {
			s.Refused, s.Shuffled = o.refused.sorted(), true
			break
		}
	}
	return s, nil
}
