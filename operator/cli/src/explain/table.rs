//! The explanation for people.

use std::io::{self, Write};

use tabwriter::TabWriter;

use super::Report;

/// Writes it.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Report { explanation, answers, served_by } = report;
    writeln!(out, "Image:  {}", explanation.image)?;
    match &explanation.file {
        Some(file) => writeln!(out, "File:   {}", file.display())?,
        None => writeln!(out, "File:   none, containerd's default")?,
    }
    let mut table = TabWriter::new(Vec::new()).padding(2);
    write!(table, "\nORDER\tFIRST REQUEST\tSAID BY")?;
    writeln!(table, "{}", if answers.is_some() { "\tTIME\tANSWER" } else { "" })?;
    for (number, attempt) in explanation.attempts.iter().enumerate() {
        let order = attempt.order.map_or_else(|| "-".to_owned(), |order| order.to_string());
        write!(table, "{order}\tHEAD {}\t{}", attempt.url, attempt.section)?;
        if let Some(answer) = answers.as_ref().and_then(|answers| answers.get(number)) {
            write!(table, "\t{} ms\t{}", answer.milliseconds, answer.answer)?;
        }
        writeln!(table)?;
    }
    table.flush()?;
    out.write_all(&table.into_inner().map_err(|error| io::Error::other(error.to_string()))?)?;
    let mut remarks = Vec::new();
    if explanation.attempts.iter().any(|attempt| attempt.order.is_none()) {
        remarks.push("-: not asked which image a tag means, but asked for its layers".to_owned());
    }
    if explanation.attempts.iter().any(|attempt| attempt.https_first) {
        remarks.push("A http host with TLS settings is tried with HTTPS first, then with plain http.".to_owned());
    }
    if answers.is_some() {
        remarks.push(match served_by {
            Some(order) => format!("Served by {order}."),
            None => "No host serves it as it was asked here.".to_owned(),
        });
    }
    remarks.extend(explanation.warnings.iter().map(|warning| format!("Warning: {warning}")));
    if !remarks.is_empty() {
        writeln!(out, "\n{}", remarks.join("\n"))?;
    }
    Ok(())
}
