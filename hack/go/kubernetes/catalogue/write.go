package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// header opens a file: where it comes from, then one comment line per line of its format.
func header(b *bytes.Buffer, format ...string) {
	b.WriteString("# Facts of Kubernetes 1.37.1, written by hack/catalogue. Do not edit.\n")
	for _, line := range format {
		b.WriteString("# " + line + "\n")
	}
}

func (c *catalogue) writeMessages(b *bytes.Buffer) error {
	header(b,
		"message NAME OPENAPI [atomic]",
		"  JSON TYPE TAG ATTRIBUTES   a field, in the order of the Go struct; JSON is + for an embedded struct, TAG is - where protobuf lacks it",
		"  go= is the Go type where the kind does not tell its names; default= is JSON; enum= lists values between bars to the end of the line; they may be empty or have spaces",
	)
	for _, name := range slices.Sorted(maps.Keys(c.messages)) {
		m := c.messages[name]
		fmt.Fprintf(b, "message %s %s", m.name, m.openapi)
		if m.atomic {
			b.WriteString(" atomic")
		}
		b.WriteByte('\n')
		for _, f := range m.fields {
			b.WriteString("  " + strings.Join(f.words(), " ") + "\n")
		}
	}
	return nil
}

// words are the parts of a field's line.
func (f *field) words() []string {
	name, tag := f.json, "-"
	if f.embedded {
		name = "+"
	}
	if f.tag != 0 {
		tag = fmt.Sprint(f.tag)
	}
	typ := f.shape + f.kind
	if f.elementPointer {
		typ = f.shape + "*" + f.kind
	}
	if f.pointer {
		typ = "*" + typ
	}
	words := []string{name, typ, tag}
	add := func(ok bool, word string) {
		if ok {
			words = append(words, word)
		}
	}
	add(f.omitEmpty, "omitempty")
	add(f.omitZero, "omitzero")
	add(f.required, "required")
	add(f.listType != "", "list="+f.listType)
	add(len(f.listKeys) > 0, "keys="+strings.Join(f.listKeys, ","))
	add(f.mapAtomic, "map=atomic")
	add(f.patch != "", "patch="+f.patch)
	add(f.patchKey != "", "patch-key="+f.patchKey)
	add(f.goType != "", "go="+f.goType)
	add(f.fallback != "", "default="+f.fallback)
	add(len(f.enum) > 0, "enum="+strings.Join(f.enum, "|"))
	return words
}

func (c *catalogue) writeKinds(b *bytes.Buffer) error {
	header(b, "VERSION KIND MESSAGE   VERSION as in apiVersion; * is every group version, those of custom resources included")
	for _, k := range c.kinds {
		fmt.Fprintf(b, "%s %s %s\n", groupVersion(k.group, k.version), k.name, k.message)
	}
	return nil
}

func groupVersion(group, version string) string {
	if group == "" || group == "*" {
		return version
	}
	return group + "/" + version
}
