//! The commands of documents: what stands in their blocks of code.

/// The operator's guide.
pub const OPERATING: &str = include_str!("../../docs/operating.md");

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The words behind the opening fence: its language, then where it is run.
    pub info: String,
    /// Its lines, without the indentation that they have in common with the fence.
    pub lines: Vec<String>,
}

/// The fenced blocks of a Markdown document, in order.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for line in document.lines() {
        let indentation = line.len() - line.trim_start().len();
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(info)) => {
                let block = Block {
                    info: info.to_owned(),
                    lines: Vec::new(),
                };
                open = Some((indentation, block));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
            (Some((common, block)), None) => block.lines.push(line.get(*common..).unwrap_or_default().to_owned()),
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_blocks_are_blocks() {
        let found = blocks("1. a\n\n   ```sh linux\n   true\n     x\n   ```\n\n```\nb\n```\n");
        let expected = [("sh linux", &["true", "  x"][..]), ("", &["b"])].map(|(info, lines)| Block {
            info: info.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        });
        assert_eq!(found, expected);
    }
}
