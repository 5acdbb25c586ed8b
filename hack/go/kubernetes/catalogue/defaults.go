package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// conditional lists the defaults that the probe takes for constants although upstream's functions set
// them only in some objects: an object that is empty but for one path meets their conditions. They are
// rules of the API server's strategies. An entry that the probe no longer finds is an error; the test
// looks for entries that are missing, as far as random objects meet a condition.
var conditional = map[string]string{
	"apps/v1.DaemonSetUpdateStrategy.rollingUpdate":           "only for type RollingUpdate",
	"apps/v1.DeploymentStrategy.rollingUpdate":                "only for type RollingUpdate",
	"apps/v1.RollingUpdateDaemonSet.maxSurge":                 "only for type RollingUpdate",
	"apps/v1.RollingUpdateDaemonSet.maxUnavailable":           "only for type RollingUpdate",
	"apps/v1.RollingUpdateDeployment.maxSurge":                "only for type RollingUpdate",
	"apps/v1.RollingUpdateDeployment.maxUnavailable":          "only for type RollingUpdate",
	"apps/v1.RollingUpdateStatefulSetStrategy.maxUnavailable": "only for type RollingUpdate",
	"apps/v1.RollingUpdateStatefulSetStrategy.partition":      "only for type RollingUpdate",
	"apps/v1.StatefulSetUpdateStrategy.rollingUpdate":         "only for type RollingUpdate",
	"apps/v1.StatefulSetUpdateStrategy.type":                  "together with rollingUpdate, which is not defaulted beside it",
	"core/v1.ConfigMap.data":                                  "an empty map, which has no wire form",
	"core/v1.Container.imagePullPolicy":                       "by the tag of the image",
	"core/v1.EphemeralContainerCommon.imagePullPolicy":        "by the tag of the image",
	"core/v1.ImageVolumeSource.pullPolicy":                    "by the tag of the reference",
	"core/v1.ServiceSpec.internalTrafficPolicy":               "not for type ExternalName",
	"core/v1.VolumeSource.emptyDir":                           "only if no other source is set",
	"networking/v1.NetworkPolicySpec.policyTypes":             "Egress too if there are egress rules",
	"resource/v1.DeviceSubRequest.count":                      "only for allocationMode ExactCount",
	"resource/v1.DeviceTaint.timeAdded":                       "the time of the write",
	"resource/v1.ExactDeviceRequest.count":                    "only for allocationMode ExactCount",
	"resource/v1alpha3.DeviceTaint.timeAdded":                 "the time of the write",
	"resource/v1beta1.DeviceSubRequest.count":                 "only for allocationMode ExactCount",
	"resource/v1beta1.DeviceTaint.timeAdded":                  "the time of the write",
	"resource/v1beta2.DeviceSubRequest.count":                 "only for allocationMode ExactCount",
	"resource/v1beta2.DeviceTaint.timeAdded":                  "the time of the write",
	"resource/v1beta2.ExactDeviceRequest.count":               "only for allocationMode ExactCount",
}

// fact counts where a field got which value.
type fact struct {
	places int
	values map[string]int
}

// readDefaults instantiates every message at every place of every kind, lets the scheme set defaults
// and takes what a field became wherever its message stands.
func (c *catalogue) readDefaults(roots []reflect.Type) error {
	places := map[string]int{}
	facts := map[*field]*fact{}
	for _, root := range roots {
		c.places(root, func(m *message, path []int) {
			o := reflect.New(root)
			follow(o.Elem(), path)
			setDefaults(o.Interface().(runtime.Object))
			places[m.name]++
			record(m, follow(o.Elem(), path), facts)
		})
	}
	unused := maps.Clone(conditional)
	for _, m := range c.messages {
		for _, f := range m.fields {
			seen := facts[f]
			if seen == nil || len(seen.values) != 1 || seen.places != places[m.name] {
				continue
			}
			if id := m.name + "." + f.json; conditional[id] != "" {
				delete(unused, id)
				continue
			}
			for value := range seen.values {
				f.fallback = value
			}
		}
	}
	for id := range unused {
		return fmt.Errorf("%s is listed as conditional, but no such default was seen", id)
	}
	return nil
}

// rootsOf returns the types that are defaulted as a whole, sorted by name: bodies and stored forms of
// what can be served. Versions that are only decoded lack some functions.
func (c *catalogue) rootsOf(resources resources) []reflect.Type {
	names := map[string]bool{}
	for _, r := range resources {
		names[r.message] = true
		if r.storage != nil {
			names[r.storage.message] = true
		}
		for _, s := range r.subresources {
			names[s.message] = true
		}
	}
	var roots []reflect.Type
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if m := c.messages[name]; m != nil {
			roots = append(roots, m.typ)
		}
	}
	return roots
}

// places calls f for every message below root with the way to it: a list of field indexes. Lists on
// the way have one element; maps end it, and so does a type inside itself.
func (c *catalogue) places(root reflect.Type, f func(m *message, path []int)) {
	var visit func(t reflect.Type, path []int, above []reflect.Type)
	visit = func(t reflect.Type, path []int, above []reflect.Type) {
		m := c.messages[shortName(t)]
		if m == nil || m.typ != t || slices.Contains(above, t) || m.name == "meta/v1.ObjectMeta" || m.name == "meta/v1.TypeMeta" {
			return
		}
		f(m, path)
		above = append(slices.Clone(above), t)
		for i := range t.NumField() {
			ft := t.Field(i).Type
			for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
				ft = ft.Elem()
			}
			if ft.Kind() == reflect.Struct {
				visit(ft, append(slices.Clone(path), i), above)
			}
		}
	}
	visit(root, nil, nil)
}

// setDefaults lets the scheme default an object. Some functions of versions that are off by default
// take for granted what validation would have refused, and panic; what they set until then counts.
func setDefaults(o runtime.Object) {
	defer func() { _ = recover() }()
	scheme.Default(o)
}

// record notes the fields of m that are set in v.
func record(m *message, v reflect.Value, facts map[*field]*fact) {
	for _, f := range m.fields {
		fv := v.FieldByName(f.goName)
		// Messages held by value are places of their own.
		if f.embedded || fv.IsZero() || (f.message && f.shape == "" && !f.pointer) {
			continue
		}
		text, err := json.Marshal(fv.Interface())
		if err != nil {
			continue
		}
		if facts[f] == nil {
			facts[f] = &fact{values: map[string]int{}}
		}
		facts[f].places++
		facts[f].values[oneWord(text)]++
	}
}

// oneWord is JSON as one word of a line.
func oneWord(text []byte) string {
	return strings.ReplaceAll(string(text), " ", `\u0020`)
}

// follow returns the struct at path below v, making what is missing on the way.
func follow(v reflect.Value, path []int) reflect.Value {
	for _, i := range path {
		v = v.Field(i)
		for v.Kind() != reflect.Struct {
			if v.Kind() == reflect.Pointer {
				if v.IsNil() {
					v.Set(reflect.New(v.Type().Elem()))
				}
				v = v.Elem()
				continue
			}
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			v = v.Index(0)
		}
	}
	return v
}
