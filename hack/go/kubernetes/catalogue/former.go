package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/server/resourceconfig"
	"k8s.io/component-base/compatibility"
	baseversion "k8s.io/component-base/version"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/kubeapiserver"
)

// reach is how many releases back a server emulates, and is compatible with.
const reach = 3

// former is what a kind is stored as while a cluster may have a server of some release.
type former struct {
	until   *version.Version
	gv      schema.GroupVersion
	message string
}

// readFormer asks the storage factory for each release that servers can be compatible with, the oldest first.
func (c *catalogue) readFormer(r *resource) error {
	stored := r.storage
	switch stored.gv.Group {
	case "apiextensions.k8s.io", "apiregistration.k8s.io":
		return nil // of servers with factories of their own, which know no release
	}
	internal := schema.GroupVersionKind{Group: stored.gv.Group, Version: runtime.APIVersionInternal, Kind: r.kind}
	object, err := legacyscheme.Scheme.New(internal)
	if err != nil {
		return err
	}
	current := version.MustParse(baseversion.DefaultKubeBinaryVersion)
	for back := uint(reach); ; back-- {
		least := current.SubtractMinor(back)
		var found schema.GroupVersion
		for ahead := range back + 1 {
			effective := compatibility.NewEffectiveVersion(current, false, current.SubtractMinor(reach), current.SubtractMinor(reach))
			effective.SetEmulationVersion(current.SubtractMinor(ahead))
			effective.SetMinCompatibilityVersion(least)
			config := kubeapiserver.NewStorageFactoryConfigEffectiveVersion(effective)
			encoding := resourceconfig.MergeResourceEncodingConfigs(config.DefaultResourceEncoding, config.ResourceEncodingOverrides)
			gv, err := encoding.BackwardCompatibileStorageEncodingFor(schema.GroupResource{Group: stored.gv.Group, Resource: r.name}, object)
			if err != nil {
				return err
			}
			if ahead > 0 && gv != found {
				return fmt.Errorf("stored as %v or %v with servers of %v, as the emulated release is", found, gv, least)
			}
			found = gv
		}
		switch last := len(stored.former) - 1; {
		case back <= 1 && found != stored.gv:
			return fmt.Errorf("stored as %v with servers of %v", found, least)
		case back <= 1 || found == stored.gv:
		case last >= 0 && stored.former[last].gv == found:
			stored.former[last].until = least
		default:
			message := c.messageOf(found.WithKind(r.kind))
			stored.former = append(stored.former, former{until: least, gv: found, message: message})
		}
		if back == 0 {
			return nil
		}
	}
}
