// SPDX-License-Identifier: Apache-2.0
//! Everything the webhook can say: why it leaves an object alone, why it refuses one, and what it warns of. Each is one
//! row here and one row in `docs/injection.md`; a test compares them.

use std::fmt;

/// One kind of thing to say.
pub trait Kind: Copy + 'static {
    /// Its name: in metrics and in the documents.
    fn code(self) -> &'static str;
    /// What people read. Words in angle brackets are filled in.
    fn sentence(self) -> &'static str;
}

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $kind:ident => $sentence:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$about])* $kind,)* }

        impl $name {
            /// Every one, in the order of the documents.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];
        }

        impl Kind for $name {
            fn code(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            fn sentence(self) -> &'static str {
                match self { $(Self::$kind => $sentence,)* }
            }
        }
    };
}

kinds! {
    /// Why an object is left as it is.
    Skip {
        /// Not of the kind or the operation that changes anything.
        NotHandled => "it is not something that Holdfast adds to",
        /// No label.
        NotLabelled => "it has no label holdfast.dev/policy",
        /// Said so itself.
        Disabled => "its annotation holdfast.dev/inject says disabled",
        /// Said so by the namespace.
        NamespaceDisabled => "its namespace's annotation holdfast.dev/inject says disabled",
        /// A static pod's image in the API: nothing of it can be changed.
        MirrorPod => "it is the mirror of a static pod, which nobody can change",
        /// What Holdfast itself rests on must not wait for Holdfast.
        SystemNamespace => "it is in a namespace that Holdfast itself depends on",
    }
}

kinds! {
    /// Why an object is refused, and what to write instead.
    Refusal {
        /// It can't be read at all.
        Malformed => "<field> is not what Kubernetes has there",
        /// The label has no value.
        PolicyNameEmpty => "the label holdfast.dev/policy is empty: write the name of a StatePolicy",
        /// No such policy.
        PolicyMissing => "there is no StatePolicy <policy> in namespace <namespace>: create it, or remove the label holdfast.dev/policy",
        /// The policy says nothing that can be done.
        PolicyUnusable => "StatePolicy <policy> can't be used: <finding>",
        /// One of our names is taken.
        NameTaken => "it has a <thing> named <name>, a name that Holdfast uses itself: rename it",
        /// No agent for it.
        OperatingSystem => "it runs on <os>, for which there is no agent: remove the label holdfast.dev/policy",
        /// Too old for sidecars.
        OldNode => "node <node> has kubelet <version>, and sidecar containers need 1.29 or newer: upgrade it",
        /// Its name could not be looked up.
        NoClusterDns => "with dnsPolicy: <dns> the agent can't find the coordinator: write dnsPolicy: <instead>",
        /// The network would be gone before the last changes are kept.
        MeshProxy => "container <container> is a mesh's proxy, which starts after the agent and may end before it: write the annotation <annotation>: \"<ports>\", or let the mesh use native sidecars",
        /// What should come after the gate comes before the mesh.
        InitBeforeMesh => "init container <container> uses volume <volume> before the mesh's <mesh> starts: place it after it",
        /// Nothing there.
        PathUncovered => "no volume is mounted at <path>: add a volumeMount there, or write provision: {ephemeralVolume: {size: 10Gi}} for path <label> in StatePolicy <policy>",
        /// Two views.
        PathAmbiguous => "containers <one> and <other> see different volumes at <path>: mount the same there in both, or move one of them",
        /// Over what is the agent's own.
        PathReserved => "volume <volume> is mounted at <path>, where the agent has its own files: mount it elsewhere",
        /// In which container?
        ProvisionAmbiguous => "it has several containers, and <path> is to be provisioned in one: name it with the annotation kubectl.kubernetes.io/default-container",
        /// No files.
        BlockVolume => "<path> is on a raw block device of container <container>, and only files are kept: write volumeMode: Filesystem",
        /// It stays behind.
        HostPath => "volume <volume> at <path> is a hostPath, which stays behind when the pod moves: write a persistentVolumeClaim or an ephemeral volume",
        /// Not the application's.
        NotState => "volume <volume> at <path> is a <type>, which the application doesn't write: declare a path that it does",
        /// Unknown to us.
        SubPathVariable => "subPathExpr of volume <volume> uses <variable>, which the agent can't know: write it in env of container <container> as a value or a fieldRef",
        /// The image decides.
        UserUnknown => "nothing says as whom container <container> runs: write securityContext: {runAsUser: N} in the pod, or in StatePolicy <policy> runAs: {user: N} (postgres and redis: 999) or preserveOwner: true",
        /// Several.
        UsersDiffer => "containers <one> and <other> use the state as users <user> and <second>: write runAs: {user: N} or preserveOwner: true in StatePolicy <policy>",
        /// More than the namespace allows.
        PodSecurity => "namespace <namespace> enforces Pod Security restricted, and preserveOwner needs baseline: write runAs: {user: N} in StatePolicy <policy> instead",
        /// Its processes can't be seen.
        ProcessesApart => "StatePolicy <policy> signals its processes, which needs a process namespace that the pod's containers share: remove <field>",
        /// Its processes can't be signalled.
        ProcessesOthers => "the agent, as user <user>, can't signal container <container>, which runs as <second>: write the same user, or preserveOwner: true in StatePolicy <policy>",
        /// Out of reach.
        SocketUncovered => "no volume is mounted over the hook's socket <path>, so the agent can't reach it: mount an emptyDir at its directory",
        /// Which one?
        LabelsDiffer => "its label names StatePolicy <one>, and its pod template's names <other>: write the same, or remove one of them",
        /// Two pods at once.
        Surge => "with maxSurge: <surge> and maxUnavailable: <unavailable> a pod starts before its predecessor's last state is there: write <field>: {type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}} or {type: <other>}",
    }
}

kinds! {
    /// What costs something that people may not expect.
    Warning {
        /// Its pods can't be made.
        PodsRefused => "its pods will be refused: <sentence>",
        /// Waits.
        RepositoryMissing => "there is no StateRepository <repository> in namespace <namespace> yet: the pod waits until it exists",
        /// Files of root.
        GroupUnknown => "container <container> has no runAsGroup: what is restored may belong to group 0; write runAsGroup or fsGroup",
        /// Root without rights.
        RootUser => "the agent runs as root without capabilities: files of other users are neither read nor restored; preserveOwner: true does",
        /// Little time.
        ShortGrace => "terminationGracePeriodSeconds: <seconds> leaves little time for the last changes: write 10 or more",
        /// Not the cluster's?
        DnsUnknown => "with dnsPolicy: None the agent finds the coordinator only if dnsConfig names the cluster's DNS",
        /// No bound.
        MemoryVolume => "volume <volume> is memory without a sizeLimit: a restore into it counts as the agent's memory; write sizeLimit",
        /// Not in it.
        MountInside => "volume <volume> is mounted at <inside>, inside of <path>: what is on it is not kept; declare a path of its own",
        /// After us.
        InitTouchesState => "init container <container> mounts volume <volume>: it runs after the state is restored and must not overwrite it",
        /// Hides the image's.
        Provisioned => "a new volume is mounted at <path> of container <container>: what the image has there is hidden",
        /// One way only.
        ReadOnly => "<path> is mounted read-only: it is kept, and never restored",
        /// PID 1.
        ProcessesShared => "its containers share a process namespace now, as StatePolicy <policy> needs: none of them has process 1",
        /// Changed.
        SurgeRemoved => "maxSurge is 0 and maxUnavailable <unavailable> now: a pod starts when its predecessor's last state is there",
        /// Too late.
        TemplateFixed => "a Job's pod template can't change: it stays as it is; label the Job when it is created",
        /// One volume, many.
        SharedClaim => "<replicas> replicas would mount claim <claim>, each with a state of its own: write scope: Shared, or use a StatefulSet",
    }
}

/// Something said, with its words filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<K> {
    /// What kind of thing.
    pub kind: K,
    /// What people read.
    pub text: String,
}

impl<K> fmt::Display for Said<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The longest word that is filled in, in characters: the API server cuts warnings off at 256.
const WORD_MAX: usize = 80;

/// Fills in the words of a sentence.
pub(crate) fn say<K: Kind>(kind: K, words: &[(&str, &str)]) -> Said<K> {
    let mut text = String::new();
    let mut rest = kind.sentence();
    while let Some((before, after)) = rest.split_once('<') {
        let (key, after) = after.split_once('>').unwrap_or((after, ""));
        text.push_str(before);
        let word = words.iter().find(|(name, _)| *name == key).map_or("?", |(_, word)| word);
        match word.char_indices().nth(WORD_MAX) {
            // a sentence of its own is not a word: it is cut where it is shown
            Some((end, _)) if !["finding", "sentence"].contains(&key) => {
                text.push_str(&word[..end]);
                text.push('…');
            }
            _ => text.push_str(word),
        }
        rest = after;
    }
    text.push_str(rest);
    Said { kind, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_in_and_long_ones_cut() {
        let said = say(Refusal::NameTaken, &[("thing", "volume"), ("name", &"x".repeat(300))]);
        assert!(said.text.starts_with("it has a volume named xxx"), "{said}");
        assert!(said.text.chars().count() < 200 && said.text.contains('…'), "{said}");
        assert!(say(Refusal::NameTaken, &[("thing", "volume")]).text.contains("named ?"));
    }

    #[test]
    fn sentences_say_what_to_write_and_warnings_fit() {
        for refusal in Refusal::ALL.iter().filter(|refusal| **refusal != Refusal::Malformed) {
            assert!(refusal.sentence().contains(": "), "{refusal:?} says not what to do");
        }
        let longest = |sentence: &str| sentence.len() + sentence.matches('<').count() * 12;
        for warning in Warning::ALL {
            assert!(longest(warning.sentence()) <= 200, "{warning:?} is too long");
        }
    }
}
