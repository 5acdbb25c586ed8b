package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	_ "k8s.io/apiextensions-apiserver/pkg/features"
	"k8s.io/apimachinery/pkg/util/version"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	_ "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/metrics/features"
	"k8s.io/kubernetes/pkg/features"
)

type gate struct {
	name   string
	stages []string
	needs  []string
}

type gates []gate

// minor is the last version whose stages are written.
var minor = version.MustParse("1.37")

func readGates() (gates, error) {
	var found gates
	registry := utilfeature.DefaultMutableFeatureGate
	all := registry.GetAllVersioned()
	if _, ok := all[features.AllowServiceExternalIPs]; !ok {
		return nil, fmt.Errorf("the gates of the control plane are not registered")
	}
	needs := registry.Dependencies()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g := gate{name: string(name)}
		for _, spec := range all[name] {
			if spec.Version.GreaterThan(minor) {
				continue
			}
			stage, err := describe(spec)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			g.stages = append(g.stages, stage)
		}
		if g.stages == nil {
			continue
		}
		for _, other := range needs[name] {
			g.needs = append(g.needs, string(other))
		}
		slices.Sort(g.needs)
		found = append(found, g)
	}
	return found, nil
}

func describe(spec featuregate.FeatureSpec) (string, error) {
	stage := map[string]string{"": "stable", "BETA": "beta", "ALPHA": "alpha", "DEPRECATED": "deprecated"}[string(spec.PreRelease)]
	if stage == "" {
		return "", fmt.Errorf("there is a stage %q", spec.PreRelease)
	}
	words := []string{fmt.Sprintf("%d.%d", spec.Version.Major(), spec.Version.Minor()), stage, choose(spec.Default, "on", "off")}
	if spec.LockToDefault {
		words = append(words, "locked")
	}
	if least := spec.MinCompatibilityVersion; least != nil {
		words = append(words, fmt.Sprintf("min=%d.%d", least.Major(), least.Minor()))
	}
	return strings.Join(words, ":"), nil
}

func (gates gates) write(b *bytes.Buffer) error {
	header(b,
		"NAME VERSION:STAGE:on|off[:locked][:min=VERSION]...   a gate's history, the oldest stage first; a stage with a",
		"                                                      min is one of clusters that have no older server",
		"  needs NAMES                                         what has to be on where the gate is",
	)
	for _, g := range gates {
		fmt.Fprintf(b, "%s %s\n", g.name, strings.Join(g.stages, " "))
		if len(g.needs) > 0 {
			fmt.Fprintf(b, "  needs %s\n", strings.Join(g.needs, " "))
		}
	}
	return nil
}
