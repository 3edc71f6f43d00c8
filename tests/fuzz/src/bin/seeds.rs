//! Writes the seeds as files, for libFuzzer: `seeds OUTPUT_DIR`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let output = PathBuf::from(env::args_os().nth(1).ok_or("call it as: seeds OUTPUT_DIR")?);
    for (name, inputs) in registry_mirror_fuzz::seeds::seeds()? {
        let directory = output.join(name);
        fs::create_dir_all(&directory)?;
        for (index, input) in inputs.iter().enumerate() {
            fs::write(directory.join(format!("seed-{index:03}")), input)?;
        }
        println!("{}: {} seeds", directory.display(), inputs.len());
    }
    Ok(())
}
