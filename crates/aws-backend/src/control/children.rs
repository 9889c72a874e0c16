//! Declares the children of a claimed document in several steps. Each step is durable, and is refused if the claim on
//! the parent is no longer valid. After an interruption, all steps are repeated. `rules::children` in `docweir-stores`
//! explains why the order of these steps is safe.

use std::collections::{HashMap, HashSet};

use docweir_core::documents::DocumentId;
use docweir_stores::control::rules;
use docweir_stores::control::{
    ChildChanges, ClaimKey, ControlError, ControlRecord, ControlStore, NewDocument, Registered, RemovedChild,
};

use super::decide::{Command, ControlReply};
use super::items;
use super::store::DynamoControlStore;
use super::writer::Subject;

/// Number of children that are written in one transaction. A transaction holds at most a hundred writes, and each
/// child needs up to three writes: its record, an audit entry, and the entry that maps the child's source to the
/// child.
const STEP: usize = 30;

/// Holds a child, and the document id under which the parent lists this child.
struct Planned {
    id: DocumentId,
    stays_deleted: bool,
    child: NewDocument,
}

impl DynamoControlStore {
    pub(super) async fn declare_children(
        &self,
        claim: &ClaimKey,
        children: Vec<NewDocument>,
    ) -> Result<ChildChanges, ControlError> {
        let parent = self.record(&claim.id).await;
        let parent = match parent {
            Err(ControlError::NotFound(_)) => None,
            found => Some(found?),
        };
        rules::check_claim(parent.as_ref(), claim)?;
        let parent = parent.ok_or_else(|| ControlError::Fenced(claim.clone()))?;
        rules::check_children(&parent, &children)?;

        let planned = self.planned(&parent, children).await?;
        let mut ids: Vec<DocumentId> = planned.iter().map(|child| child.id.clone()).collect();
        let removed = self.remove_children(claim, &parent, &ids).await?;
        self.on(&claim.id, Command::AnnounceChildren { claim: claim.clone(), children: ids.clone() }).await?;
        let registered = self.register_children(claim, planned).await?;
        ids = registered.iter().map(|answer| answer.key().id.clone()).collect();
        let changed = registered.iter().filter(|answer| !matches!(answer, Registered::Unchanged(..))).count();
        let settled = Command::FinishChildren {
            claim: claim.clone(),
            children: ids,
            registered: changed,
            removed: removed.len(),
        };
        self.on(&claim.id, settled).await?;
        Ok(ChildChanges { registered, removed })
    }

    /// Looks up the document ids of known sources, and creates ids for new sources.
    async fn planned(&self, parent: &ControlRecord, children: Vec<NewDocument>) -> Result<Vec<Planned>, ControlError> {
        let keys = children.iter().map(|child| items::source_key(&child.source)).collect();
        let found = self.dynamo.get_many(&self.options.state_table, keys, true).await;
        let found = found.map_err(|fault| self.failed(fault))?;
        let known: HashMap<String, DocumentId> = found
            .iter()
            .filter_map(|item| {
                let entry = items::source_entry(item)?;
                Some((items::text(item, "source")?.to_owned(), DocumentId::parse(&entry.document)?))
            })
            .collect();
        let mut minted = HashSet::new();
        let mut mint = || loop {
            let id = DocumentId::mint(self.clock.now(), fastrand::u32(..));
            if minted.insert(id.clone()) {
                return id;
            }
        };
        let planned = children.into_iter().map(|child| {
            let id = known.get(&child.source).cloned().unwrap_or_else(&mut mint);
            Planned { stays_deleted: rules::stays_deleted(parent, &id), id, child }
        });
        Ok(planned.collect())
    }

    /// Requests the removal of all children that the parent's record still lists, except the children in `kept`. The
    /// parent's new content no longer contains the removed children.
    async fn remove_children(
        &self,
        claim: &ClaimKey,
        parent: &ControlRecord,
        kept: &[DocumentId],
    ) -> Result<Vec<RemovedChild>, ControlError> {
        let kept: HashSet<&DocumentId> = kept.iter().collect();
        let gone: Vec<&DocumentId> = parent.children.iter().filter(|id| !kept.contains(id)).collect();
        let mut removed = Vec::new();
        for step in gone.chunks(STEP) {
            let ask = |id: &&DocumentId| (Subject::Id((*id).clone()), Command::RemoveChild { under: claim.clone() });
            let answers = self.writer.ask_all(step.iter().map(ask).collect()).await;
            let mut asked = Vec::new();
            for (id, answer) in step.iter().zip(answers) {
                if matches!(answer?, ControlReply::Yes(true)) {
                    asked.push((*id).clone());
                }
            }
            for id in asked {
                let source = self.record(&id).await?.source;
                removed.push(RemovedChild { id, source });
            }
        }
        Ok(removed)
    }

    async fn register_children(
        &self,
        claim: &ClaimKey,
        mut planned: Vec<Planned>,
    ) -> Result<Vec<Registered>, ControlError> {
        let mut registered = Vec::with_capacity(planned.len());
        while !planned.is_empty() {
            let step: Vec<Planned> = planned.drain(..planned.len().min(STEP)).collect();
            let ask = |Planned { id, stays_deleted, child }: Planned| {
                let source = Subject::Source(child.source.clone());
                (source, Command::RegisterChild { child, id, stays_deleted, under: claim.clone() })
            };
            for answer in self.writer.ask_all(step.into_iter().map(ask).collect()).await {
                match answer? {
                    ControlReply::Registered(answer) => registered.push(answer),
                    other => return Err(self.unexpected(&other)),
                }
            }
        }
        Ok(registered)
    }
}
