package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
)

// pass is a setting of gates under which cases are asked once more.
type pass struct {
	Name string `json:"pass"`
	// Gates are those that are not as they are by default.
	Gates setting `json:"gates"`
	// Among is the pass of whose differences some are what this one is asked; everything if empty.
	Among string `json:"among,omitempty"`
}

// setting says of gates whether they are on.
type setting map[featuregate.Feature]bool

// allOn is the pass with every gate on, allOff that with every one off.
const (
	allOn  = "on"
	allOff = "off"
)

// switchable returns the defaults of the gates that can be something else.
func switchable() setting {
	found := setting{}
	for gate, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		// Those of whole stages say the same as their gates.
		if !spec.LockToDefault && gate != "AllAlpha" && gate != "AllBeta" {
			found[gate] = spec.Default
		}
	}
	return found
}

// passesOf lists the passes: all gates on, all off, and each that is not as it is by default by itself, with
// what that needs to be on, or what goes with it when it is off.
func passesOf(defaults setting) []pass {
	needs := utilfeature.DefaultMutableFeatureGate.Dependencies()
	all := []pass{{Name: allOn, Gates: defaults.other(true)}, {Name: allOff, Gates: defaults.other(false)}}
	for _, gate := range slices.Sorted(maps.Keys(defaults)) {
		one := setting{}
		if defaults[gate] {
			one.off(gate, needs, defaults)
			all = append(all, pass{"-" + string(gate), one, allOff})
		} else {
			one.on(gate, needs, defaults)
			all = append(all, pass{"+" + string(gate), one, allOn})
		}
	}
	return all
}

// other are the gates that are not what is asked for, with that.
func (s setting) other(on bool) setting {
	found := setting{}
	for gate, is := range s {
		if is != on {
			found[gate] = on
		}
	}
	return found
}

func (s setting) on(gate featuregate.Feature, needs map[featuregate.Feature][]featuregate.Feature, defaults setting) {
	if is, free := defaults[gate]; free && !is {
		s[gate] = true
	}
	for _, other := range needs[gate] {
		s.on(other, needs, defaults)
	}
}

func (s setting) off(gate featuregate.Feature, needs map[featuregate.Feature][]featuregate.Feature, defaults setting) {
	if defaults[gate] {
		s[gate] = false
	}
	for other, needed := range needs {
		if slices.Contains(needed, gate) {
			s.off(other, needs, defaults)
		}
	}
}

// listener notes which gates the cases depend on; others need not be tried.
type listener struct {
	featuregate.FeatureGate
	heard sync.Map
}

// listen makes upstream ask the listener.
func listen() *listener {
	l := &listener{FeatureGate: utilfeature.DefaultFeatureGate}
	utilfeature.DefaultFeatureGate = l
	return l
}

func (l *listener) Enabled(gate featuregate.Feature) bool {
	l.heard.Store(gate, true)
	return l.FeatureGate.Enabled(gate)
}

// any says whether somebody asked for one of the gates.
func (l *listener) any(s setting) bool {
	for gate := range s {
		if _, ok := l.heard.Load(gate); ok {
			return true
		}
	}
	return false
}

// set makes gates what they are by default, but for those of a pass.
func (s setting) set(defaults setting) error {
	all := map[string]bool{}
	for gate, on := range defaults {
		all[string(gate)] = on
	}
	for gate, on := range s {
		all[string(gate)] = on
	}
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(all); err != nil {
		return fmt.Errorf("gates: %w", err)
	}
	return nil
}

// answer is what is said of a case under a pass where that is not what is said by default.
type answer struct {
	Case  int    `json:"case"`
	Under string `json:"under"`
	// Alone says that the case is asked with each of the gates alone as well.
	Alone bool `json:"alone,omitempty"`
	Said  said `json:"said"`
}

// alone returns those that are asked with each gate alone, of what was found under all of them: one for each change of a
// place. Known are those that there are already.
func alone(t *trial, found []answer, known map[string]bool) []int {
	var cases []int
	for i, a := range found {
		r := t.cases[a.Case]
		change, _, _ := strings.Cut(r.Change, " = ")
		general := strings.Join([]string{r.Resource, r.Subresource, r.Verb, withoutIndices(change)}, " ")
		if !known[general] && !strings.Contains(r.Change, " & ") {
			known[general] = true
			found[i].Alone = true
			cases = append(cases, a.Case)
		}
	}
	return cases
}

// write writes a pass that changes something, with the answers of each trial, and returns the cases that are asked
// with each of its gates alone.
func (p pass) write(w io.Writer, trials []*trial, found [][]answer) ([][]int, error) {
	told := make([][]int, len(trials))
	first, some := 0, p.Among == ""
	for _, answers := range found {
		some = some || len(answers) > 0
	}
	if !some {
		return told, nil
	}
	if p.Among == "" {
		known := map[string]bool{}
		for i, t := range trials {
			told[i] = alone(t, found[i], known)
		}
	}
	if err := write(w, p); err != nil {
		return nil, err
	}
	for i, answers := range found {
		for _, a := range answers {
			a.Case += first
			if err := write(w, a); err != nil {
				return nil, err
			}
		}
		first += len(trials[i].cases)
	}
	return told, nil
}
