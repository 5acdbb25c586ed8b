use super::super::testing::Of;

const CONFIG_MAPS: Of = Of("", "v1", "configmaps");
const SECRETS: Of = Of("", "v1", "secrets");
const ACCOUNTS: Of = Of("", "v1", "serviceaccounts");

fn object(rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"o","namespace":"n"}},{rest}}}"#)
}

#[test]
fn keys_are_names_of_files_and_of_one_map() {
    assert_eq!(
        CONFIG_MAPS.refused(&object(r#""data":{"a":"","b":""},"binaryData":{"b":""}"#)),
        ["data[b]: Invalid value: \"b\": duplicate of key present in binaryData"]
    );
    assert_eq!(
        CONFIG_MAPS.refused(&object(r#""data":{"..":""}"#)),
        ["data[..]: Invalid value: \"..\": must not be '..'"]
    );
}

#[test]
fn what_is_immutable_stays() {
    const TOLD: &str = "Forbidden: field is immutable when `immutable` is set";
    let old = object(r#""immutable":true,"data":{"a":"1"}"#);
    let refused = |new: &str| CONFIG_MAPS.refused_update("", &object(new), &old);
    assert!(CONFIG_MAPS.update("", &old, &old).is_ok());
    assert_eq!(
        refused(r#""data":{"a":"2"}"#),
        [format!("immutable: {TOLD}"), format!("data: {TOLD}")]
    );
    // Upstream compares the maps as they are.
    assert_eq!(
        refused(r#""immutable":true,"data":{"a":"1"},"binaryData":{}"#),
        [format!("binaryData: {TOLD}")]
    );
}

#[test]
fn what_must_not_change_is_told_before_the_name() {
    let old = object(r#""type":"a""#);
    let new = old.replace(r#""name""#, r#""generateName":"B_","name""#);
    let told = SECRETS.refused_update("", &new.replace(r#""a""#, r#""b""#), &old);
    let fields: Vec<_> = told.iter().filter_map(|t| t.split(':').next()).collect();
    assert_eq!(fields, ["type", "metadata.generateName"]);
}

#[test]
fn texts_of_secrets_are_data() {
    let stored = SECRETS.create(&object(r#""data":{"a":"MQ=="},"stringData":{"a":"2"}"#));
    let stored = stored.expect("the secret is fine");
    assert_eq!(
        stored.at(&["data", "a"]).and_then(|v| v.as_str()),
        Some("Mg==")
    );
    assert_eq!(stored.get("stringData"), None);
    assert_eq!(stored.get("type").and_then(|v| v.as_str()), Some("Opaque"));
}

#[test]
fn accounts_name_secrets_of_their_namespace() {
    let stored = ACCOUNTS.create(&object(r#""secrets":[{"name":"s","namespace":"other"}]"#));
    let stored = stored.expect("the account is fine");
    let secret = stored
        .get("secrets")
        .and_then(|list| list.as_list()?.first());
    let secret = secret.expect("the secret is named");
    assert_eq!(
        (secret.get("namespace"), secret.get("name").is_some()),
        (None, true)
    );
}
