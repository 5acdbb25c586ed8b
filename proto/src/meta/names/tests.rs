use super::*;

#[test]
fn checks_and_their_words_are_upstreams() {
    let mut n = 0;
    for line in include_str!("cases.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        n += 1;
        let [check, text, expected]: [String; 3] = serde_json::from_str(line).unwrap();
        let text = text.as_str();
        let problems = match check.as_str() {
            "Nlabel" => dns_label_problems(text),
            "Nsub" => dns_subdomain_problems(text),
            "Nsubu" => dns_subdomain_with_underscore_problems(text),
            "N1035" => dns_1035_label_problems(text),
            "Nwild" => wildcard_dns_subdomain_problems(text),
            "Nkey" => label_key_problems(text),
            "Npkey" => prefixed_label_key_problems(text),
            "Nval" => label_value_problems(text),
            "Nseg" => path_segment_problems(text),
            "Ncid" => c_identifier_problems(text),
            "Nport" => port_name_problems(text),
            "Npct" => percent_problems(text),
            "Nhdr" => http_header_name_problems(text),
            "Ncmk" => config_map_key_problems(text),
            "Nenv" => env_var_name_problems(text),
            "Nrenv" => relaxed_env_var_name_problems(text),
            "Nreason" => condition_reason_problems(text),
            "Nshort" => short_name_problems(text),
            "Nlong" => long_name_problems(text),
            "Nlongc" => long_name_caseless_problems(text),
            "Ngsub" => subdomain_name(text, true),
            "Nglabel" => label_name(text, true),
            other => panic!("no check {other}"),
        };
        assert_eq!(problems.join("\n"), expected, "{line}");
    }
    assert!(n > 100);
}

#[test]
fn a_prefix_may_end_in_a_dash() {
    assert!(label_name("web-", true).is_empty());
    assert!(!label_name("web-", false).is_empty());
    assert!(!label_name("-", true).is_empty());
}
