package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	_ "k8s.io/apiextensions-apiserver/pkg/features"
	"k8s.io/apimachinery/pkg/util/version"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	_ "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/metrics/features"
	"k8s.io/kubernetes/pkg/features"
)

type gate struct {
	name, stage     string
	enabled, locked bool
}

type gates []gate

// minor is the version whose stages are written.
var minor = version.MustParse("1.37")

func readGates() (gates, error) {
	var found gates
	all := utilfeature.DefaultMutableFeatureGate.GetAllVersioned()
	if _, ok := all[features.AllowServiceExternalIPs]; !ok {
		return nil, fmt.Errorf("the gates of the control plane are not registered")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var now *featuregate.FeatureSpec
		for i, spec := range all[name] {
			if !spec.Version.GreaterThan(minor) {
				now = &all[name][i]
			}
		}
		if now == nil {
			continue
		}
		stage := map[string]string{"": "stable", "BETA": "beta", "ALPHA": "alpha", "DEPRECATED": "deprecated"}[string(now.PreRelease)]
		if stage == "" {
			return nil, fmt.Errorf("%s has stage %q", name, now.PreRelease)
		}
		found = append(found, gate{string(name), stage, now.Default, now.LockToDefault})
	}
	return found, nil
}

func (gates gates) write(b *bytes.Buffer) error {
	header(b, "NAME STAGE on|off [locked]")
	for _, g := range gates {
		fmt.Fprintf(b, "%s %s %s", g.name, g.stage, map[bool]string{true: "on", false: "off"}[g.enabled])
		if g.locked {
			b.WriteString(" locked")
		}
		b.WriteByte('\n')
	}
	return nil
}
