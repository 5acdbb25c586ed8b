package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
)

// allBut has every gate on but one, and remembers which are asked.
type allBut struct {
	featuregate.FeatureGate
	off   featuregate.Feature
	asked map[featuregate.Feature]bool
}

func (g allBut) Enabled(gate featuregate.Feature) bool {
	g.asked[gate] = true
	return gate != g.off
}

// policyLine is a line of an object, or its head.
type policyLine struct {
	head, text string
	// nth tells lines apart that an object has more than once.
	nth int
}

// policyWithout is what all gates but one make of the policy, in order.
func policyWithout(off featuregate.Feature) ([]policyLine, map[featuregate.Feature]bool, error) {
	real, asked := utilfeature.DefaultFeatureGate, map[featuregate.Feature]bool{}
	utilfeature.DefaultFeatureGate = allBut{FeatureGate: real, off: off, asked: asked}
	defer func() { utilfeature.DefaultFeatureGate = real }()
	var b bytes.Buffer
	if err := readRBAC(&b); err != nil {
		return nil, nil, err
	}
	var lines []policyLine
	seen := map[policyLine]int{}
	head := ""
	for text := range strings.Lines(b.String()) {
		if text = strings.TrimSuffix(text, "\n"); !strings.HasPrefix(text, " ") {
			head = text
		}
		line := policyLine{head: head, text: text}
		line.nth = seen[line]
		seen[policyLine{head: head, text: text}]++
		lines = append(lines, line)
	}
	return lines, asked, nil
}

// writeRBAC writes the policy as it is with every gate on, and which gates each line of it needs: those without which it is
// not there.
func writeRBAC(b *bytes.Buffer) error {
	header(b,
		"clusterrole NAME, role NAMESPACE/NAME",
		"  label KEY VALUE                 beside kubernetes.io/bootstrapping=rbac-defaults, which all have,",
		"                                  as they have the annotation rbac.authorization.kubernetes.io/autoupdate=true",
		"  aggregate KEY VALUE             a label that selects what is aggregated; such a role has no rules of its own",
		"  rule GROUPS RESOURCES VERBS [NAMES]   lists between commas; - is the core group",
		"  url PATHS VERBS                 a path may have a question mark and a gate behind it, which it needs",
		"clusterrolebinding NAME clusterrole/ROLE, rolebinding NAMESPACE/NAME role/ROLE",
		"  user NAME, group NAME, serviceaccount NAMESPACE/NAME",
		"  needs GATES                     what has to be on for the line before, and for all of an object if that is its head",
	)
	whole, asked, err := policyWithout("")
	if err != nil {
		return err
	}
	needs := map[policyLine][]string{}
	paths := map[string]string{}
	for _, gate := range slices.Sorted(maps.Keys(asked)) {
		rest, _, err := policyWithout(gate)
		if err != nil {
			return err
		}
		missing, added := subtract(whole, rest), subtract(rest, whole)
		for _, less := range added {
			i := slices.IndexFunc(missing, func(more policyLine) bool { return more.head == less.head && strings.HasPrefix(more.text, "  url ") })
			if i < 0 {
				return fmt.Errorf("%s: %q is there without %s only", less.head, less.text, gate)
			}
			for _, path := range strings.Split(strings.Fields(missing[i].text)[1], ",") {
				if !slices.Contains(strings.Split(strings.Fields(less.text)[1], ","), path) {
					paths[path] = path + "?" + string(gate)
				}
			}
			missing = slices.Delete(missing, i, i+1)
		}
		for _, line := range missing {
			needs[line] = append(needs[line], string(gate))
		}
	}
	for _, line := range whole {
		of := needs[line]
		if line.text != line.head {
			// What the whole object needs is said once.
			of = slices.DeleteFunc(slices.Clone(of), func(gate string) bool {
				return slices.Contains(needs[policyLine{head: line.head, text: line.head}], gate)
			})
		}
		text := line.text
		if words := strings.Fields(text); words[0] == "url" {
			for path, gated := range paths {
				text = strings.Replace(text, path+" ", gated+" ", 1)
				text = strings.Replace(text, path+",", gated+",", 1)
			}
		}
		b.WriteString(text + "\n")
		if len(of) > 0 {
			fmt.Fprintf(b, "  needs %s\n", strings.Join(of, " "))
		}
	}
	return nil
}

// subtract gives what is in one list and not in another.
func subtract(lines, others []policyLine) []policyLine {
	return slices.DeleteFunc(slices.Clone(lines), func(line policyLine) bool { return slices.Contains(others, line) })
}
