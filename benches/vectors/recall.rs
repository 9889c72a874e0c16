//! Measures the recall of searches by codes, compared with exact searches of the same collection, for embeddings of
//! many shapes.

use std::time::Instant;

use docweir_index::search::filter::Filter;
use docweir_index::testing::unit;
use docweir_index::{Mode, SearchRequest};
use fastrand::Rng;

use crate::{block_on, documents, model, open};

const QUERIES: usize = 50;
const K: usize = 10;

/// Describes a set of vectors.
enum Shape {
    /// Independent directions.
    Random,
    /// Vectors around a common axis. The cosine of two vectors has this mean and this standard deviation.
    Cone(f32, f32),
    /// Groups of this many vectors that hardly differ.
    Duplicates(usize),
    /// Vectors that differ in this number of directions only, as texts made from one template do.
    Template(usize),
    Equal,
}

pub fn run(rows: usize) {
    println!("{rows} rows, {QUERIES} queries, recall@{K}; milliseconds a query by codes and exactly\n");
    println!("| vectors | dimensions | recall | with a filter of 10 % | by codes, ms | exact, ms |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let sets = [
        ("cosines .850 ± .017", 384, Shape::Cone(0.85, 0.017)),
        ("cosines .749 ± .029", 384, Shape::Cone(0.749, 0.029)),
        ("cosines .850 ± .017", 768, Shape::Cone(0.85, 0.017)),
        ("random", 384, Shape::Random),
        ("near duplicates, 20 of each", 384, Shape::Duplicates(20)),
        ("near duplicates, 1,000 of each", 384, Shape::Duplicates(1_000)),
        ("one template", 384, Shape::Template(12)),
        ("all equal", 384, Shape::Equal),
        ("random", 8, Shape::Random),
        ("random", 64, Shape::Random),
        ("random", 1_536, Shape::Random),
    ];
    for (name, dimension, shape) in sets {
        measure(name, dimension, &shape, rows);
    }
}

fn measure(name: &str, dimension: usize, shape: &Shape, rows: usize) {
    let work = tempfile::tempdir().unwrap();
    let mut rng = Rng::with_seed(5);
    let mut source = Source::new(shape, dimension, &mut rng);
    block_on(async {
        let store = open(work.path());
        let mut writer = store.writer();
        for first in (0..rows).step_by(5_000) {
            let vectors: Vec<f32> = (0..5_000.min(rows - first)).flat_map(|_| source.draw(&mut rng)).collect();
            let writes = documents(first, &vectors, dimension, |_| String::new());
            writer.commit(writes, &model(dimension as u32)).await.unwrap();
        }
        let view = store.view().await.unwrap();
        let (mut found, mut filtered, mut coded_ms, mut exact_ms) = (0, 0, 0.0, 0.0);
        for _ in 0..QUERIES {
            let query = source.draw(&mut rng);
            let search = |exact, filter| {
                let request = SearchRequest {
                    mode: Mode::Vector,
                    exact,
                    filter,
                    ..SearchRequest::new("", Some(query.clone()), K)
                };
                let started = Instant::now();
                let scores: Vec<f32> = view.search(&request).unwrap().iter().map(|hit| hit.score).collect();
                (scores, started.elapsed().as_secs_f64() * 1e3)
            };
            // Rows of equal score are equally near.
            let right = |scores: &[f32], exact: &[f32]| {
                let least = exact.last().unwrap() - 1e-6;
                scores.iter().filter(|score| **score >= least).count()
            };
            // The first search computes what later searches reuse.
            search(false, None);
            let ((scores, coded), (best, exact)) = (search(false, None), search(true, None));
            found += right(&scores, &best);
            coded_ms += coded / QUERIES as f64;
            exact_ms += exact / QUERIES as f64;
            let tenth = || Some(Filter::at_most("metadata.bucket", 9.0));
            filtered += right(&search(false, tenth()).0, &search(true, tenth()).0);
        }
        let share = |n: usize| n as f64 / (QUERIES * K) as f64;
        println!(
            "| {name} | {dimension} | {:.3} | {:.3} | {coded_ms:.2} | {exact_ms:.2} |",
            share(found),
            share(filtered)
        );
    });
}

/// Draws vectors of one shape.
struct Source<'s> {
    shape: &'s Shape,
    dimension: usize,
    axis: Vec<f32>,
    /// Directions in which the vectors of a cone or of a template differ.
    directions: Vec<Vec<f32>>,
    drawn: usize,
}

impl<'s> Source<'s> {
    fn new(shape: &'s Shape, dimension: usize, rng: &mut Rng) -> Self {
        let directions = match shape {
            // The cosine of two vectors varies with the cosine of their parts beside the axis, whose deviation is
            // 1/√directions.
            Shape::Cone(mean, deviation) => ((1.0 - mean) / deviation).powi(2).round() as usize,
            Shape::Template(directions) => *directions,
            _ => 0,
        };
        let directions = (0..directions.min(dimension)).map(|_| normal(dimension, rng)).collect();
        Self { shape, dimension, axis: unit(&normal(dimension, rng)), directions, drawn: 0 }
    }

    fn draw(&mut self, rng: &mut Rng) -> Vec<f32> {
        self.drawn += 1;
        match self.shape {
            Shape::Random => unit(&normal(self.dimension, rng)),
            Shape::Equal => self.axis.clone(),
            Shape::Cone(mean, _) => self.around((mean / (1.0 - mean)).sqrt(), rng),
            Shape::Template(_) => self.around(3.0, rng),
            Shape::Duplicates(each) => {
                if self.drawn.is_multiple_of(*each) {
                    self.axis = unit(&normal(self.dimension, rng));
                }
                let noise = unit(&normal(self.dimension, rng));
                unit(&self.axis.iter().zip(noise).map(|(a, n)| a + 0.05 * n).collect::<Vec<_>>())
            }
        }
    }

    /// Returns a vector beside the axis. `along` is the length of its part along the axis, divided by that of its
    /// other part.
    fn around(&self, along: f32, rng: &mut Rng) -> Vec<f32> {
        let mut beside = vec![0.0; self.dimension];
        for (direction, weight) in self.directions.iter().zip(normal(self.directions.len(), rng)) {
            beside.iter_mut().zip(direction).for_each(|(b, d)| *b += weight * d);
        }
        unit(&self.axis.iter().zip(unit(&beside)).map(|(a, b)| along * a + b).collect::<Vec<_>>())
    }
}

fn normal(count: usize, rng: &mut Rng) -> Vec<f32> {
    let mut one = || (-2.0 * (1.0 - rng.f32()).ln()).sqrt() * (rng.f32() * std::f32::consts::TAU).cos();
    (0..count).map(|_| one()).collect()
}
