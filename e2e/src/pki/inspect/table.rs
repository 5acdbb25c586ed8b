//! A report for people: two tables as `kubeadm certs check-expiration` prints them, then what is wrong.

use std::fmt::Write;

use super::super::dates;
use super::{Report, Row};

pub(super) fn render(report: &Report) -> String {
    let rows = |rows: &[Row], cells: fn(&Row) -> Vec<String>| rows.iter().map(cells).collect();
    let mut text = String::new();
    if !report.certificates.is_empty() {
        let head = [
            "CERTIFICATE",
            "EXPIRES",
            "RESIDUAL TIME",
            "CERTIFICATE AUTHORITY",
            "EXTERNALLY MANAGED",
        ];
        text += &table(&head, rows(&report.certificates, leaf));
    }
    if !report.certificate_authorities.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        let head = [
            "CERTIFICATE AUTHORITY",
            "EXPIRES",
            "RESIDUAL TIME",
            "EXTERNALLY MANAGED",
        ];
        text += &table(&head, rows(&report.certificate_authorities, authority));
    }
    let all = report
        .certificates
        .iter()
        .chain(&report.certificate_authorities);
    let problems = all.flat_map(|row| {
        let told = row.problems.iter();
        told.map(move |problem| (format!("{} ({})", row.name, row.file.display()), problem))
    });
    let files = report
        .problems
        .iter()
        .map(|broken| (broken.file.display().to_string(), &broken.problem));
    let mut first = true;
    for (what, problem) in problems.chain(files) {
        if std::mem::take(&mut first) && !text.is_empty() {
            text.push('\n');
        }
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{what}: {problem}");
    }
    text
}

fn leaf(row: &Row) -> Vec<String> {
    let mut cells = authority(row);
    cells.insert(3, row.ca_name.clone().unwrap_or_default());
    cells
}

fn authority(row: &Row) -> Vec<String> {
    let managed = if row.externally_managed { "yes" } else { "no" };
    vec![
        row.name.clone(),
        dates::words(row.ends),
        dates::left(row.residual_time),
        managed.to_owned(),
    ]
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(head[column].len())
        })
        .collect();
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in [head].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}   "))
            .collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}
