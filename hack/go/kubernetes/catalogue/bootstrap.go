package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	flowcontrol "k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	rbac "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// readRBAC writes the roles and bindings that every API server makes and repairs at its start, as the gates are now.
func readRBAC(b *bytes.Buffer) error {
	roles := slices.Concat(rbac.ClusterRoles(), rbac.ControllerRoles())
	for _, r := range sorted(roles, func(r rbacv1.ClusterRole) string { return r.Name }) {
		if err := writeRole(b, "clusterrole "+r.Name, r.ObjectMeta, r.AggregationRule, r.Rules); err != nil {
			return err
		}
	}
	bindings := slices.Concat(rbac.ClusterRoleBindings(), rbac.ControllerRoleBindings())
	for _, r := range sorted(bindings, func(r rbacv1.ClusterRoleBinding) string { return r.Name }) {
		if err := writeBinding(b, "clusterrolebinding "+r.Name, r.ObjectMeta, r.RoleRef, r.Subjects); err != nil {
			return err
		}
	}
	byNamespace := rbac.NamespaceRoles()
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		for _, r := range sorted(byNamespace[namespace], func(r rbacv1.Role) string { return r.Name }) {
			if err := writeRole(b, "role "+namespace+"/"+r.Name, r.ObjectMeta, nil, r.Rules); err != nil {
				return err
			}
		}
	}
	bindingsByNamespace := rbac.NamespaceRoleBindings()
	for _, namespace := range slices.Sorted(maps.Keys(bindingsByNamespace)) {
		for _, r := range sorted(bindingsByNamespace[namespace], func(r rbacv1.RoleBinding) string { return r.Name }) {
			if err := writeBinding(b, "rolebinding "+namespace+"/"+r.Name, r.ObjectMeta, r.RoleRef, r.Subjects); err != nil {
				return err
			}
		}
	}
	return nil
}

func sorted[T any](items []T, name func(T) string) []T {
	return slices.SortedFunc(slices.Values(items), func(a, b T) int { return cmp.Compare(name(a), name(b)) })
}

// writeMeta opens an object and checks that it has the marks that all have.
func writeMeta(b *bytes.Buffer, head string, m metav1.ObjectMeta) error {
	b.WriteString(head + "\n")
	if !maps.Equal(m.Annotations, map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}) {
		return fmt.Errorf("%s has annotations %v", head, m.Annotations)
	}
	labels := maps.Clone(m.Labels)
	if labels["kubernetes.io/bootstrapping"] != "rbac-defaults" {
		return fmt.Errorf("%s has labels %v", head, labels)
	}
	delete(labels, "kubernetes.io/bootstrapping")
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(b, "  label %s %s\n", key, labels[key])
	}
	return nil
}

func writeRole(b *bytes.Buffer, head string, m metav1.ObjectMeta, aggregation *rbacv1.AggregationRule, rules []rbacv1.PolicyRule) error {
	if err := writeMeta(b, head, m); err != nil {
		return err
	}
	if aggregation != nil {
		for _, s := range aggregation.ClusterRoleSelectors {
			if len(s.MatchExpressions) > 0 || len(s.MatchLabels) != 1 || len(rules) > 0 {
				return fmt.Errorf("%s aggregates by more than one label", head)
			}
			for key, value := range s.MatchLabels {
				fmt.Fprintf(b, "  aggregate %s %s\n", key, value)
			}
		}
	}
	for _, r := range rules {
		switch {
		case len(r.NonResourceURLs) > 0 && len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) == 0:
			fmt.Fprintf(b, "  url %s %s\n", commas(r.NonResourceURLs), commas(r.Verbs))
		case len(r.NonResourceURLs) == 0 && len(r.APIGroups) > 0 && len(r.Resources) > 0:
			fmt.Fprintf(b, "  rule %s %s %s", commas(r.APIGroups), commas(r.Resources), commas(r.Verbs))
			if len(r.ResourceNames) > 0 {
				b.WriteString(" " + commas(r.ResourceNames))
			}
			b.WriteByte('\n')
		default:
			return fmt.Errorf("%s has the rule %v", head, r)
		}
	}
	return nil
}

func writeBinding(b *bytes.Buffer, head string, m metav1.ObjectMeta, role rbacv1.RoleRef, subjects []rbacv1.Subject) error {
	if role.APIGroup != rbacv1.GroupName {
		return fmt.Errorf("%s refers to %v", head, role)
	}
	head += " " + strings.ToLower(role.Kind) + "/" + role.Name
	if err := writeMeta(b, head, m); err != nil {
		return err
	}
	for _, s := range subjects {
		name := s.Name
		switch {
		case s.Kind == rbacv1.ServiceAccountKind && s.APIGroup == "":
			name = s.Namespace + "/" + s.Name
		case s.Kind == rbacv1.ServiceAccountKind || s.APIGroup != rbacv1.GroupName:
			return fmt.Errorf("%s has the subject %v", head, s)
		}
		fmt.Fprintf(b, "  %s %s\n", strings.ToLower(s.Kind), name)
	}
	return nil
}

// commas joins a list into one word; the core group, whose name is empty, is a dash.
func commas(values []string) string {
	words := slices.Clone(values)
	for i := range words {
		words[i] = orDash(words[i])
	}
	return strings.Join(words, ",")
}

// writeFlowControl writes the flow schemas and priority levels that every API server makes at its
// start: the mandatory ones, which it also repairs, and the suggested ones.
func writeFlowControl(b *bytes.Buffer) error {
	header(b,
		"prioritylevel NAME mandatory|suggested exempt SHARES LENDABLE",
		"prioritylevel NAME mandatory|suggested limited SHARES LENDABLE BORROWING reject|queue [QUEUES HAND-SIZE LENGTH]",
		"  SHARES are nominal concurrency shares; LENDABLE and BORROWING percentages, - for none",
		"flowschema NAME mandatory|suggested LEVEL PRECEDENCE DISTINGUISHER   DISTINGUISHER is ByUser, ByNamespace or -",
		"  rules                                 opens one of its rules: a subject and a resource or url of it must match",
		"    user NAME, group NAME, serviceaccount NAMESPACE/NAME",
		"    resource VERBS GROUPS RESOURCES NAMESPACES [cluster]   lists between commas; - is the core group or an empty list",
		"    url VERBS PATHS",
	)
	for _, set := range []struct {
		name    string
		levels  []*flowcontrolv1.PriorityLevelConfiguration
		schemas []*flowcontrolv1.FlowSchema
	}{
		{"mandatory", flowcontrol.MandatoryPriorityLevelConfigurations, flowcontrol.MandatoryFlowSchemas},
		{"suggested", flowcontrol.SuggestedPriorityLevelConfigurations, flowcontrol.SuggestedFlowSchemas},
	} {
		for _, l := range sorted(set.levels, func(l *flowcontrolv1.PriorityLevelConfiguration) string { return l.Name }) {
			if err := writePriorityLevel(b, set.name, l); err != nil {
				return err
			}
		}
		for _, s := range sorted(set.schemas, func(s *flowcontrolv1.FlowSchema) string { return s.Name }) {
			if err := writeFlowSchema(b, set.name, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func percent(p *int32) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

func writePriorityLevel(b *bytes.Buffer, set string, l *flowcontrolv1.PriorityLevelConfiguration) error {
	fmt.Fprintf(b, "prioritylevel %s %s %s", l.Name, set, strings.ToLower(string(l.Spec.Type)))
	switch {
	case l.Spec.Exempt != nil && l.Spec.Limited == nil:
		fmt.Fprintf(b, " %s %s\n", percent(l.Spec.Exempt.NominalConcurrencyShares), percent(l.Spec.Exempt.LendablePercent))
	case l.Spec.Limited != nil && l.Spec.Exempt == nil:
		limited := l.Spec.Limited
		response := limited.LimitResponse
		fmt.Fprintf(b, " %s %s %s %s", percent(limited.NominalConcurrencyShares), percent(limited.LendablePercent),
			percent(limited.BorrowingLimitPercent), strings.ToLower(string(response.Type)))
		if q := response.Queuing; q != nil {
			fmt.Fprintf(b, " %d %d %d", q.Queues, q.HandSize, q.QueueLengthLimit)
		}
		b.WriteByte('\n')
	default:
		return fmt.Errorf("priority level %s is neither exempt nor limited", l.Name)
	}
	return nil
}

func writeFlowSchema(b *bytes.Buffer, set string, s *flowcontrolv1.FlowSchema) error {
	distinguisher := "-"
	if d := s.Spec.DistinguisherMethod; d != nil {
		distinguisher = string(d.Type)
	}
	fmt.Fprintf(b, "flowschema %s %s %s %d %s\n", s.Name, set, s.Spec.PriorityLevelConfiguration.Name, s.Spec.MatchingPrecedence, distinguisher)
	for _, r := range s.Spec.Rules {
		b.WriteString("  rules\n")
		for _, subject := range r.Subjects {
			switch {
			case subject.User != nil:
				fmt.Fprintf(b, "    user %s\n", subject.User.Name)
			case subject.Group != nil:
				fmt.Fprintf(b, "    group %s\n", subject.Group.Name)
			case subject.ServiceAccount != nil:
				fmt.Fprintf(b, "    serviceaccount %s/%s\n", subject.ServiceAccount.Namespace, subject.ServiceAccount.Name)
			default:
				return fmt.Errorf("flow schema %s has the subject %v", s.Name, subject)
			}
		}
		for _, p := range r.ResourceRules {
			fmt.Fprintf(b, "    resource %s %s %s %s", commas(p.Verbs), commas(p.APIGroups), commas(p.Resources), orDash(commas(p.Namespaces)))
			if p.ClusterScope {
				b.WriteString(" cluster")
			}
			b.WriteByte('\n')
		}
		for _, p := range r.NonResourceRules {
			fmt.Fprintf(b, "    url %s %s\n", commas(p.Verbs), commas(p.NonResourceURLs))
		}
	}
	return nil
}
