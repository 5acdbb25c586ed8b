// Command catalogue writes what Kubernetes looks like as text: every message and field of its API,
// every resource, kind and feature gate. The facts are read off upstream's own registered types and
// REST storages at run time, so nothing is transcribed by hand and a new upstream version shows as a
// diff of the text files.
//
// The format is described at the head of each file that is written. Facts only: neither descriptions
// nor comments of upstream are carried over.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", "", "directory for messages.txt, resources.txt, kinds.txt and gates.txt")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "catalogue:", err)
		os.Exit(1)
	}
}

// run extracts in an order that matters: resources() ends by switching every feature gate on, which
// would show in the defaults.
func run(dir string) error {
	cat, err := readTypes()
	if err != nil {
		return fmt.Errorf("types: %w", err)
	}
	if err := cat.readSchemas(); err != nil {
		return fmt.Errorf("schemas: %w", err)
	}
	if err := cat.readDefaults(); err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	gates, err := readGates()
	if err != nil {
		return fmt.Errorf("gates: %w", err)
	}
	resources, err := cat.readResources()
	if err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	for _, f := range []struct {
		name  string
		write func(*bytes.Buffer)
	}{
		{"messages.txt", cat.writeMessages},
		{"kinds.txt", cat.writeKinds},
		{"gates.txt", func(b *bytes.Buffer) { writeGates(b, gates) }},
		{"resources.txt", func(b *bytes.Buffer) { writeResources(b, resources) }},
	} {
		var b bytes.Buffer
		f.write(&b)
		if err := os.WriteFile(filepath.Join(dir, f.name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
