package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
)

// constantTable finds the values of string constants of API packages in their sources.
type constantTable map[string]map[string]string

var constants = constantTable{}

// value is that of a constant of a package such as core/v1.
func (t constantTable) value(pkg, name string) (string, error) {
	if t[pkg] == nil {
		values, err := readConstants(pkg)
		if err != nil {
			return "", err
		}
		t[pkg] = values
	}
	value, ok := t[pkg][name]
	if !ok {
		return "", fmt.Errorf("no constant %s in %s", name, pkg)
	}
	return value, nil
}

func readConstants(pkg string) (map[string]string, error) {
	module, below := "k8s.io/api", pkg
	if pkg == "meta/v1" {
		module, below = "k8s.io/apimachinery", "pkg/apis/meta/v1"
	}
	dir, err := moduleDir(module)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, below, "*.go"))
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		imports := importNames(file)
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.CONST {
				continue
			}
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				for i, ident := range v.Names {
					if i >= len(v.Values) {
						continue
					}
					if value, ok := literal(v.Values[i], imports); ok {
						values[ident.Name] = value
					}
				}
			}
		}
	}
	return values, nil
}

// literal is the value of a string, of a conversion of one, or of a constant of another package.
func literal(e ast.Expr, imports map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		value, err := strconv.Unquote(e.Value)
		return value, err == nil
	case *ast.CallExpr:
		return literal(e.Args[0], imports)
	case *ast.SelectorExpr:
		value, err := constants.value(imports[name(e.X)], e.Sel.Name)
		return value, err == nil
	}
	return "", false
}

// importNames are the names of a file's imports, with the packages that they stand for, shortened.
func importNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		parts := strings.Split(path, "/")
		name := parts[len(parts)-1]
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = strings.Join(parts[max(0, len(parts)-2):], "/")
	}
	return names
}
