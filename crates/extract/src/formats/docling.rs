//! Writes an extracted document in the form of Docling (`DoclingDocument`), which tools of its ecosystem read.

use docweir_core::model::{Bbox, Block, BlockKind, ExtractedDocument, Page, TableCell};
use serde_json::{Map, Value, json};

use super::{cell_text, cells, plain};

/// Version of the schema that is written.
const SCHEMA: &str = "1.3.0";

/// Returns a document in the form of Docling. `name` is the name of the document, usually that of its file without the
/// extension.
pub fn docling(document: &ExtractedDocument, name: &str) -> Value {
    let mut parts = Parts::default();
    let mut pages = Map::new();
    for page in &document.pages {
        if page.width > 0.0 {
            let size = json!({"width": page.width, "height": page.height});
            pages.insert(page.number.to_string(), json!({"size": size, "image": null, "page_no": page.number}));
        }
        for (block, index) in page.blocks.iter().zip(0u32..) {
            parts.add(document, page, block, index);
        }
    }
    json!({
        "schema_name": "DoclingDocument",
        "version": SCHEMA,
        "name": name,
        "furniture": root("#/furniture", "furniture", &[]),
        "body": root("#/body", "body", &parts.body),
        "groups": parts.groups,
        "texts": parts.texts,
        "pictures": [],
        "tables": parts.tables,
        "key_value_items": [],
        "form_items": [],
        "pages": pages,
    })
}

/// Collects the items of a document.
#[derive(Default)]
struct Parts {
    body: Vec<String>,
    texts: Vec<Value>,
    tables: Vec<Value>,
    groups: Vec<Value>,
    /// True if the last item belongs to the last group, which is a list.
    in_list: bool,
}

impl Parts {
    fn add(&mut self, document: &ExtractedDocument, page: &Page, block: &Block, index: u32) {
        let cells = cells(page, index);
        if block.kind == BlockKind::Table && !cells.is_empty() {
            let reference = format!("#/tables/{}", self.tables.len());
            self.tables.push(table(page, block, &cells, &reference));
            self.body.push(reference);
            self.in_list = false;
            return;
        }
        let reference = format!("#/texts/{}", self.texts.len());
        let text = plain(document, page, block);
        let (label, layer) = match block.kind {
            BlockKind::Heading { .. } => ("section_header", "body"),
            BlockKind::ListItem => ("list_item", "body"),
            BlockKind::Code => ("code", "body"),
            BlockKind::PageFurniture if in_upper_half(page, block) => ("page_header", "furniture"),
            BlockKind::PageFurniture => ("page_footer", "furniture"),
            _ => ("text", "body"),
        };
        let parent = if block.kind == BlockKind::ListItem { self.list(&reference) } else { "#/body".to_owned() };
        if block.kind != BlockKind::ListItem {
            self.in_list = false;
            self.body.push(reference.clone());
        }
        let mut item = json!({
            "self_ref": reference,
            "parent": {"$ref": parent},
            "children": [],
            "content_layer": layer,
            "label": label,
            "prov": provenance(page, block.bbox, text.chars().count()),
            "orig": text,
            "text": text,
        });
        match block.kind {
            BlockKind::Heading { level } => item["level"] = level.clamp(1, 100).into(),
            BlockKind::ListItem => {
                item["enumerated"] = (!block.range.of(&page.text).starts_with("- ")).into();
                item["marker"] = "-".into();
            }
            BlockKind::Code => {
                item["captions"] = json!([]);
                item["references"] = json!([]);
                item["footnotes"] = json!([]);
                item["code_language"] = "unknown".into();
            }
            _ => {}
        }
        self.texts.push(item);
    }

    /// Adds an item to the current list, and returns the reference of the list.
    fn list(&mut self, item: &str) -> String {
        if !self.in_list {
            let reference = format!("#/groups/{}", self.groups.len());
            self.body.push(reference.clone());
            self.groups.push(json!({
                "self_ref": reference,
                "parent": {"$ref": "#/body"},
                "children": [],
                "content_layer": "body",
                "name": "list",
                "label": "list",
            }));
            self.in_list = true;
        }
        if let Some(children) = self.groups.last_mut().and_then(|group| group["children"].as_array_mut()) {
            children.push(json!({"$ref": item}));
        }
        format!("#/groups/{}", self.groups.len() - 1)
    }
}

fn root(reference: &str, layer: &str, children: &[String]) -> Value {
    let children: Vec<Value> = children.iter().map(|child| json!({"$ref": child})).collect();
    json!({
        "self_ref": reference,
        "children": children,
        "content_layer": layer,
        "name": "_root_",
        "label": "unspecified",
    })
}

fn in_upper_half(page: &Page, block: &Block) -> bool {
    block.bbox.is_some_and(|b| b[1] + b[3] < page.height)
}

fn bbox(b: Bbox) -> Value {
    json!({"l": b[0], "t": b[1], "r": b[2], "b": b[3], "coord_origin": "TOPLEFT"})
}

fn provenance(page: &Page, place: Option<Bbox>, chars: usize) -> Value {
    match place {
        Some(b) => json!([{"page_no": page.number, "bbox": bbox(b), "charspan": [0, chars]}]),
        None => json!([]),
    }
}

fn table(page: &Page, block: &Block, cells: &[&TableCell], reference: &str) -> Value {
    let rows = cells.iter().map(|cell| cell.row + cell.rows).max().unwrap_or(0);
    let columns = cells.iter().map(|cell| cell.column + cell.columns).max().unwrap_or(0);
    let cell = |cell: &&TableCell| {
        json!({
            "bbox": cell.bbox.map(bbox),
            "row_span": cell.rows,
            "col_span": cell.columns,
            "start_row_offset_idx": cell.row,
            "end_row_offset_idx": cell.row + cell.rows,
            "start_col_offset_idx": cell.column,
            "end_col_offset_idx": cell.column + cell.columns,
            "text": cell_text(page, cell),
            "column_header": cell.row == 0,
            "row_header": false,
            "row_section": false,
        })
    };
    json!({
        "self_ref": reference,
        "parent": {"$ref": "#/body"},
        "children": [],
        "content_layer": "body",
        "label": "table",
        "prov": provenance(page, block.bbox, 0),
        "captions": [],
        "references": [],
        "footnotes": [],
        "data": {
            "table_cells": cells.iter().map(cell).collect::<Vec<_>>(),
            "num_rows": rows,
            "num_cols": columns,
        },
    })
}
