//! Each object has the form that its API asks for, and no field beside.

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Secret, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kcr_keda_sh::v1alpha1::{scaledobjects::ScaledObjectSpec, triggerauthentications::TriggerAuthenticationSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    manifests::{self, Object, of_kind, parse},
    operators::{Binding, Cluster, Exchange, Kustomization, Permission, Policy, Queue, User},
};

/// What is wrong with an object.
pub(crate) fn check(object: &Object) -> Result<(), String> {
    let value = &object.value;
    let checked = match (value["apiVersion"].as_str().unwrap_or_default(), object.kind()) {
        ("apps/v1", "Deployment") => strict::<Deployment>(value),
        ("v1", "Secret") => strict::<Secret>(value),
        ("policy/v1", "PodDisruptionBudget") => strict::<PodDisruptionBudget>(value),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization") => strict::<Kustomization>(value),
        ("keda.sh/v1alpha1", "ScaledObject") => custom::<ScaledObjectSpec>(value),
        ("keda.sh/v1alpha1", "TriggerAuthentication") => custom::<TriggerAuthenticationSpec>(value),
        ("rabbitmq.com/v1beta1", "RabbitmqCluster") => custom::<Cluster>(value),
        ("rabbitmq.com/v1beta1", "Exchange") => custom::<Exchange>(value),
        ("rabbitmq.com/v1beta1", "Queue") => custom::<Queue>(value),
        ("rabbitmq.com/v1beta1", "Binding") => custom::<Binding>(value),
        ("rabbitmq.com/v1beta1", "Policy") => custom::<Policy>(value),
        ("rabbitmq.com/v1beta1", "User") => custom::<User>(value),
        ("rabbitmq.com/v1beta1", "Permission") => custom::<Permission>(value),
        (version, kind) => Err(format!("nothing checks {kind} of {version}: add it to schemas.rs")),
    };
    checked.map_err(|error| format!("{}: {error}", object.title()))
}

/// An object of a custom resource: three fields, of which `spec` is a `T`.
fn custom<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    let known = ["apiVersion", "kind", "metadata", "spec"];
    let unknown = value.as_object().and_then(|fields| fields.keys().find(|key| !known.contains(&key.as_str())));
    if let Some(unknown) = unknown {
        return Err(format!("unknown field {unknown}"));
    }
    strict::<ObjectMeta>(&value["metadata"])?;
    strict::<T>(&value["spec"]).map_err(|error| format!("spec: {error}"))
}

/// Reads a `T`, and refuses fields that it does not have.
fn strict<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize::<_, _, T>(value.clone(), |path| unknown.push(path.to_string()));
    read.map_err(|error| error.to_string())?;
    if unknown.is_empty() { Ok(()) } else { Err(format!("unknown field {}", unknown.join(", "))) }
}

#[test]
fn every_manifest_has_the_form_that_its_api_asks_for() {
    let wrong: Vec<_> = manifests::all().iter().filter_map(|object| check(object).err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A field of every kind of object is misspelt, and a value has the wrong type: without these the check above could be
/// one that lets everything pass.
#[test]
fn a_typing_error_in_a_manifest_is_found() {
    for (kind, written, misspelt) in [
        ("Deployment", "terminationGracePeriodSeconds", "terminationGracePeriod"),
        ("Deployment", "failureThreshold", "failureTreshold"),
        ("Deployment", "seconds\":5", "seconds\":\"soon\""),
        ("PodDisruptionBudget", "maxUnavailable", "maxUnavailabel"),
        ("Secret", "stringData", "stringdata"),
        ("Kustomization", "resources", "resource"),
        ("ScaledObject", "pollingInterval", "poolingInterval"),
        ("ScaledObject", "stabilizationWindowSeconds\":300", "stabilizationWindowSeconds\":\"5m\""),
        ("TriggerAuthentication", "secretTargetRef", "secretTargetReference"),
        ("RabbitmqCluster", "additionalPlugins", "additionalPlugin"),
        ("RabbitmqCluster", "topologyKey", "toplogyKey"),
        ("Exchange", "\"topic\"", "\"topics\""),
        ("Queue", "\"quorum\"", "\"quorom\""),
        ("Binding", "routingKey", "routing_key"),
        ("Policy", "applyTo", "appliesTo"),
        ("User", "importCredentialsSecret", "importCredentials"),
        ("Permission", "\"configure\"", "\"config\""),
    ] {
        let object = of_kind(kind).into_iter().next().unwrap();
        assert_eq!(check(&object), Ok(()));
        let text = serde_json::to_string(&object.value).unwrap();
        assert!(text.contains(written), "{kind} has no {written}");
        let wrong = parse(&object.file, &text.replace(written, misspelt)).remove(0);
        let error = check(&wrong).expect_err(&format!("{kind}: {misspelt}"));
        assert!(error.contains(&object.file), "{error}");
    }
}

#[test]
fn kustomize_finds_every_file_and_no_file_is_forgotten() {
    for folder in ["base", "overlays/queue-length", "overlays/drain-time"] {
        let text = std::fs::read_to_string(manifests::path(folder).join("kustomization.yaml")).unwrap();
        let Kustomization { resources, .. } = serde_saphyr::from_str(&text).unwrap();
        for resource in &resources {
            assert!(manifests::path(folder).join(resource).exists(), "{folder}: {resource}");
        }
        for entry in std::fs::read_dir(manifests::path(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name == "kustomization.yaml" || resources.contains(&name), "{folder}: {name} is not a resource");
        }
    }
}
