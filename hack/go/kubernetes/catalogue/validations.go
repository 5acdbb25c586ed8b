package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// writeValidations writes the rules of declarative validation. Upstream generates a function for each
// type from the tags of its fields; the shape of these functions is fixed, so that the rules are read
// back from their syntax trees. A shape that is not known is an error.
func (c *catalogue) writeValidations(b *bytes.Buffer) error {
	header(b,
		"root TYPE   a type that is validated as an object",
		"type TYPE, then its rules in upstream's order; what is indented belongs to the line before",
		"  field JSON, inline, scope, discriminated JSON JSON (then default and case VALUE) hold further rules",
		"  [stop] alpha|beta|standard RULE   stop: if it fails, nothing further of the same holder is looked at; alpha: not reported",
		"  keys of lists are (JSON,...), (*) for the whole element, (-) where elements have no old ones",
	)
	dir, err := moduleDir("k8s.io/kubernetes")
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "pkg/apis/*/v*/zz_generated.validations.go"))
	if err != nil {
		return err
	}
	types := map[string][]string{}
	var roots []string
	for _, path := range files {
		parts := strings.Split(path, "/")
		own := strings.Join(parts[len(parts)-3:len(parts)-1], "/")
		r := &rulesReader{catalogue: c, types: types, roots: &roots, own: own}
		if err := r.file(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	slices.Sort(roots)
	for _, root := range roots {
		fmt.Fprintf(b, "root %s\n", root)
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		fmt.Fprintf(b, "type %s\n", name)
		for _, line := range types[name] {
			b.WriteString(line + "\n")
		}
	}
	return nil
}

func moduleDir(module string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	return strings.TrimSpace(string(out)), err
}

// rulesReader reads one generated file.
type rulesReader struct {
	catalogue *catalogue
	types     map[string][]string
	roots     *[]string

	own     string            // the package of the API that the file is about: core/v1
	imports map[string]string // import name to package, shortened: corev1 to core/v1
	enums   map[string]string // variable to the values of its set
	unions  map[string][]string
	lines   []string
	err     error
}

func (r *rulesReader) fail(format string, args ...any) {
	r.err = errors.Join(r.err, fmt.Errorf(format, args...))
}

func (r *rulesReader) file(path string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	r.imports, r.enums, r.unions = importNames(file), map[string]string{}, map[string][]string{}
	for _, decl := range file.Decls {
		if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.VAR {
			r.variable(d)
		}
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil {
			continue
		}
		if f.Name.Name == "RegisterValidations" {
			r.registered(f)
		}
		if !strings.HasPrefix(f.Name.Name, "Validate_") {
			continue
		}
		r.lines = nil
		params := f.Type.Params.List
		typ := params[len(params)-1].Type
		// A function of a type gets a pointer to it, or the list or map that it is.
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		r.statements(f.Body.List, 1)
		if r.err != nil {
			return fmt.Errorf("%s: %w", f.Name.Name, r.err)
		}
		r.types[r.typeName(typ)] = r.lines
	}
	return r.err
}

// registered notes which types are roots.
func (r *rulesReader) registered(f *ast.FuncDecl) {
	ast.Inspect(f, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || name(call.Fun) != "scheme.AddValidationFunc" {
			return true
		}
		conversion := call.Args[0].(*ast.CallExpr)
		typ := conversion.Fun.(*ast.ParenExpr).X.(*ast.StarExpr).X
		*r.roots = append(*r.roots, r.typeName(typ))
		return true
	})
}

// variable reads the values of an enumeration, or the members of a union.
func (r *rulesReader) variable(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		call, ok := v.Values[0].(*ast.CallExpr)
		if !ok {
			continue
		}
		var members []string
		switch fun := call.Fun.(type) {
		case *ast.SelectorExpr:
			switch fun.Sel.Name {
			case "New":
				for _, a := range call.Args {
					members = append(members, r.constant(a))
				}
				slices.Sort(members)
				r.enums[v.Names[0].Name] = strings.Join(members, "|")
			case "NewUnionMembership":
				for _, a := range call.Args {
					member, _ := strconv.Unquote(a.(*ast.CallExpr).Args[0].(*ast.BasicLit).Value)
					members = append(members, member)
				}
				r.unions[v.Names[0].Name] = members
			}
		}
	}
}

// constant is the value of a constant of an API package.
func (r *rulesReader) constant(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		text, _ := strconv.Unquote(lit.Value)
		return text
	}
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		r.fail("constant %T", e)
		return ""
	}
	value, err := constants.value(r.imports[name(sel.X)], sel.Sel.Name)
	if err != nil {
		r.fail("constant %s: %w", name(sel), err)
	}
	return value
}

func (r *rulesReader) typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return r.imports[name(e.X)] + "." + e.Sel.Name
	case *ast.Ident:
		return e.Name
	case *ast.ArrayType:
		return "[]" + r.typeName(e.Elt)
	}
	r.fail("type %T", e)
	return ""
}

func (r *rulesReader) add(depth int, words ...string) {
	r.lines = append(r.lines, strings.Repeat(" ", depth)+strings.Join(words, " "))
}

// statements reads the body of a function: rules, fields, scopes, and calls for types.
func (r *rulesReader) statements(list []ast.Stmt, depth int) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.BlockStmt:
			r.field(s, depth)
		case *ast.IfStmt:
			if s.Init != nil {
				r.rule(s, depth)
			}
		case *ast.AssignStmt:
			r.assignment(s, depth)
		case *ast.ExprStmt:
			call, ok := s.X.(*ast.CallExpr)
			if ok {
				if lit, ok := call.Fun.(*ast.FuncLit); ok {
					r.add(depth, "scope")
					r.statements(lit.Body.List, depth+1)
					continue
				}
			}
			r.fail("statement %T", s.X)
		case *ast.ReturnStmt:
		default:
			r.fail("statement %T", s)
		}
	}
}

// assignment reads `errs = append(errs, CALL...)`, the call being for a type or a rule.
func (r *rulesReader) assignment(s *ast.AssignStmt, depth int) {
	call, ok := s.Rhs[0].(*ast.CallExpr)
	if !ok || name(call.Fun) != "append" {
		return
	}
	inner := call.Args[1].(*ast.CallExpr)
	level, _, rule := marks(inner)
	if check := r.check(rule); check != "" {
		r.add(depth, level, check)
	}
}

// field reads the block of one field.
func (r *rulesReader) field(block *ast.BlockStmt, depth int) {
	fn := block.List[0].(*ast.AssignStmt).Rhs[0].(*ast.FuncLit)
	last := block.List[len(block.List)-1].(*ast.AssignStmt).Rhs[0].(*ast.CallExpr).Args[1].(*ast.CallExpr)
	path := last.Args[0].(*ast.CallExpr)
	before := len(r.lines)
	if name(path.Fun) == "safe.Value" {
		r.add(depth, "inline")
	} else {
		json, _ := strconv.Unquote(path.Args[0].(*ast.BasicLit).Value)
		r.add(depth, "field", json)
	}
	r.statements(fn.Body.List, depth+1)
	// Metadata have only rules that are not enforced.
	if len(r.lines) == before+1 {
		r.lines = r.lines[:before]
	}
}

// marks takes the marks off a rule: its level, whether it stops.
func marks(call *ast.CallExpr) (level string, stop bool, rule *ast.CallExpr) {
	level = "standard"
	for {
		sel, ok := call.Fun.(*ast.SelectorExpr)
		inner, isCall := (*ast.CallExpr)(nil), false
		if ok {
			inner, isCall = sel.X.(*ast.CallExpr)
		}
		if !isCall {
			return level, stop, call
		}
		switch sel.Sel.Name {
		case "MarkAlpha":
			level = "alpha"
		case "MarkBeta":
			level = "beta"
		case "MarkShortCircuit":
			stop = true
		}
		call = inner
	}
}

// rule reads `if e := CALL; len(e) != 0 { ... }`.
func (r *rulesReader) rule(s *ast.IfStmt, depth int) {
	call := s.Init.(*ast.AssignStmt).Rhs[0].(*ast.CallExpr)
	level, _, rule := marks(call)
	stop := false
	for _, inner := range s.Body.List {
		if a, ok := inner.(*ast.AssignStmt); ok && name(a.Lhs[0]) == "earlyReturn" {
			stop = true
		}
	}
	words := []string{level}
	if stop {
		words = []string{"stop", level}
	}
	if name(rule.Fun) == "validate.Discriminated" {
		r.discriminated(rule, depth)
		return
	}
	check := r.check(rule)
	if check != "" {
		r.add(depth, append(words, check)...)
	}
}

func (r *rulesReader) discriminated(call *ast.CallExpr, depth int) {
	json, _ := strconv.Unquote(call.Args[5].(*ast.BasicLit).Value)
	getter := call.Args[7].(*ast.FuncLit)
	r.add(depth, "discriminated", json, r.fieldOf(getter))
	if fallback, ok := call.Args[9].(*ast.FuncLit); ok {
		r.add(depth+1, "default")
		r.statements(fallback.Body.List, depth+2)
	}
	for _, e := range call.Args[10].(*ast.CompositeLit).Elts {
		var value string
		var body *ast.FuncLit
		for _, kv := range e.(*ast.CompositeLit).Elts {
			kv := kv.(*ast.KeyValueExpr)
			if name(kv.Key) == "Value" {
				value = r.constant(kv.Value)
			} else {
				body, _ = kv.Value.(*ast.FuncLit)
			}
		}
		r.add(depth+1, "case", value)
		if body != nil {
			r.statements(body.Body.List, depth+2)
		}
	}
}

// fieldOf is the JSON name of the field that `func(obj *T) F { return obj.Field }` gets.
func (r *rulesReader) fieldOf(f *ast.FuncLit) string {
	typ := f.Type.Params.List[0].Type.(*ast.StarExpr).X
	var fields []string
	ast.Inspect(f.Body, func(node ast.Node) bool {
		if sel, ok := node.(*ast.SelectorExpr); ok {
			fields = append(fields, r.json(r.typeName(typ), sel.Sel.Name))
			return false
		}
		return true
	})
	if len(fields) == 0 {
		r.fail("no field is got")
		return ""
	}
	return fields[0]
}

func (r *rulesReader) json(message, goName string) string {
	if m := r.catalogue.messages[message]; m != nil {
		for _, f := range m.fields {
			if f.goName == goName {
				return f.json
			}
		}
	}
	r.fail("no field %s.%s", message, goName)
	return ""
}

// check is a rule in our words; empty for those of metadata, which are not enforced.
func (r *rulesReader) check(call *ast.CallExpr) string {
	fun := name(call.Fun)
	if strings.Contains(fun, "Validate_") {
		return r.typed(fun)
	}
	return r.words(fun, call.Args[min(5, len(call.Args)):])
}

// typed is the rule that the rules of a type hold.
func (r *rulesReader) typed(fun string) string {
	pkg, typ, ok := strings.Cut(fun, ".")
	if !ok {
		pkg, typ = "", fun
	} else if r.imports[pkg] == "v1/validation" {
		return ""
	}
	typ = strings.TrimPrefix(typ, "Validate_")
	if pkg != "" {
		return "type " + r.imports[pkg] + "." + typ
	}
	return "type " + r.own + "." + typ
}

var plain = map[string]string{
	"OptionalValue": "optional", "OptionalPointer": "optional*", "OptionalSlice": "optional", "OptionalMap": "optional",
	"RequiredValue": "required", "RequiredPointer": "required*", "RequiredSlice": "required", "RequiredMap": "required",
	"ForbiddenValue": "forbidden", "ForbiddenPointer": "forbidden*", "ForbiddenSlice": "forbidden", "ForbiddenMap": "forbidden",
	"Immutable": "immutable", "Monotonic": "monotonic",
	"ShortName": "format short-name", "LongName": "format long-name", "LongNameCaseless": "format long-name-caseless",
	"LabelKey": "format label-key", "PrefixedLabelKey": "format prefixed-label-key", "LabelValue": "format label-value",
	"PathSegmentName": "format path-segment-name", "UUID": "format uuid",
	"ResourcePoolName": "format resource-pool-name", "ResourceFullyQualifiedName": "format resource-fully-qualified-name",
	"ExtendedResourceName": "format extended-resource-name",
}

var limits = map[string]string{
	"MaxItems": "max-items", "MinItems": "min-items", "MaxLength": "max-length", "MinLength": "min-length",
	"MaxBytes": "max-bytes", "MaxProperties": "max-properties", "Minimum": "minimum", "Maximum": "maximum",
}

// words are a function of upstream's package validate, with its own arguments.
func (r *rulesReader) words(fun string, args []ast.Expr) string {
	short := strings.TrimPrefix(fun, "validate.")
	if word, ok := plain[short]; ok {
		return word
	}
	if word, ok := limits[short]; ok {
		return word + " " + args[0].(*ast.BasicLit).Value
	}
	switch short {
	case "Enum":
		if name(args[1]) != "nil" {
			return "enum " + r.enums[name(args[0])] + r.exclusions(args[1])
		}
		return "enum " + r.enums[name(args[0])]
	case "ValSliceUnique":
		return "unique " + r.keys(args[0])
	case "EachValSliceVal":
		inner := r.validator(args[2])
		if inner == "" {
			return ""
		}
		return "each " + r.keys(args[0]) + " " + inner
	case "EachMapKey":
		return "each-key " + r.validator(args[0])
	case "EachMapVal":
		return "each-value " + r.validator(args[1])
	case "Union", "ZeroOrOneOfUnion":
		word := map[string]string{"Union": "union", "ZeroOrOneOfUnion": "at-most-one"}[short]
		return word + " " + strings.Join(r.members(name(args[0]), args[1:]), " ")
	case "UpdatePointer", "UpdateValueByCompare", "UpdateValueByReflect", "UpdateStruct":
		return "update " + constraints(args)
	case "ValSliceUpdate":
		return "update-list " + r.keys(args[0]) + " " + constraints(args[1:])
	case "DependentRequired", "DependentForbidden":
		word := map[string]string{"DependentRequired": "dependent-required", "DependentForbidden": "dependent-forbidden"}[short]
		return fmt.Sprintf("%s %s %s", word, r.constant(args[0]), r.constant(args[2]))
	case "Subfield":
		return "subfield " + r.constant(args[0]) + " " + r.validator(args[3])
	case "IfOption":
		on := map[string]string{"true": "on", "false": "off"}[name(args[1])]
		return "option " + r.constant(args[0]) + " " + on + " " + r.validator(args[2])
	}
	if custom, ok := strings.CutPrefix(fun, "ValidateCustom_"); ok {
		return "custom " + custom
	}
	r.fail("rule %s", fun)
	return ""
}

func constraints(args []ast.Expr) string {
	var words []string
	for _, a := range args {
		words = append(words, strings.TrimPrefix(name(a), "validate."))
	}
	return strings.Join(words, ",")
}

func (r *rulesReader) exclusions(e ast.Expr) string {
	r.fail("enumerations with exclusions (%T)", e)
	return ""
}

// validator is the rule that a function stands for: named, or a literal around one call.
func (r *rulesReader) validator(e ast.Expr) string {
	lit, ok := e.(*ast.FuncLit)
	if !ok {
		if strings.Contains(name(e), "Validate_") {
			return r.typed(name(e))
		}
		return r.words(name(e), nil)
	}
	ret, ok := lit.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(lit.Body.List) != 1 {
		r.fail("a validator of several statements")
		return ""
	}
	_, _, rule := marks(ret.Results[0].(*ast.CallExpr))
	return r.check(rule)
}

// keys is what makes elements of a list the same.
func (r *rulesReader) keys(e ast.Expr) string {
	lit, ok := e.(*ast.FuncLit)
	if !ok {
		if name(e) == "nil" {
			return "(-)"
		}
		return "(*)"
	}
	typ := r.typeName(lit.Type.Params.List[0].Type.(*ast.StarExpr).X)
	var keys []string
	ast.Inspect(lit.Body, func(node ast.Node) bool {
		if sel, ok := node.(*ast.SelectorExpr); ok && name(sel.X) == "a" {
			if key := r.json(typ, sel.Sel.Name); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		return true
	})
	return "(" + strings.Join(keys, ",") + ")"
}

// members are those of a union: a field that is there, `[]` one that is not empty, or the elements of
// a list that have a key of a value.
func (r *rulesReader) members(union string, getters []ast.Expr) []string {
	names := r.unions[union]
	var words []string
	for i, getter := range getters {
		word := names[i]
		ast.Inspect(getter, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.CallExpr:
				if name(node.Fun) == "len" {
					word = names[i] + "[]"
				}
			case *ast.RangeStmt:
				word = r.item(names[i], getter.(*ast.FuncLit), node)
				return false
			}
			return true
		})
		words = append(words, word)
	}
	return words
}

// item reads `for i := range list { if list[i].Type == "x" { return true } }`.
func (r *rulesReader) item(member string, f *ast.FuncLit, loop *ast.RangeStmt) string {
	typ := r.typeName(f.Type.Params.List[0].Type.(*ast.ArrayType).Elt)
	cond, ok := loop.Body.List[0].(*ast.IfStmt).Cond.(*ast.BinaryExpr)
	if !ok {
		r.fail("member %s", member)
		return ""
	}
	sel := cond.X.(*ast.SelectorExpr)
	list, _, _ := strings.Cut(member, "[")
	return fmt.Sprintf("%s:%s=%s", list, r.json(typ, sel.Sel.Name), r.constant(cond.Y))
}

// name is the text of an identifier or a selector.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return name(e.X) + "." + e.Sel.Name
	}
	return ""
}
