//! What a reader does with a guide.

use std::process::Command;

/// A guide's text. What stands in a block `text` is what the block `console` before it prints.
pub(crate) struct Guide(pub(crate) &'static str);

impl Guide {
    /// Its blocks of code, each with its language.
    fn blocks(&self) -> Vec<(&'static str, &'static str)> {
        let fenced = self.0.split("```").skip(1).step_by(2);
        fenced.map(|block| block.split_once('\n').expect("a block has lines")).collect()
    }

    /// Asserts that its first block is `program`, line by line.
    #[track_caller]
    pub(crate) fn shows(&self, program: &str) {
        let (_, shown) = self.blocks()[0];
        for (number, (shown, is)) in (1..).zip(shown.lines().zip(program.lines())) {
            assert_eq!(shown, is, "line {number} of the program");
        }
        assert_eq!(shown, program);
    }

    /// Asserts that its blocks of Rust are `program`, piece by piece.
    #[track_caller]
    pub(crate) fn shows_in_pieces(&self, program: &str) {
        let pieces = self.blocks().into_iter().filter(|(language, _)| *language == "rust");
        let shown: Vec<_> = pieces.map(|(_, piece)| piece).collect();
        for (number, (shown, is)) in (1..).zip(shown.join("\n").lines().zip(program.lines())) {
            assert_eq!(shown, is, "line {number} of the program");
        }
        assert_eq!(shown.join("\n"), program);
    }

    /// Types its commands, with `names` (such as of a server) replaced by those that they have here, and asserts that
    /// they print what the guide says.
    pub(crate) fn keeps_its_word(&self, names: &[(&str, &str)]) {
        let blocks = self.blocks();
        let tried = blocks.windows(2).filter(|pair| (pair[0].0, pair[1].0) == ("console", "text"));
        let mut count = 0;
        for pair in tried {
            let (commands, said) = (pair[0].1.to_owned(), pair[1].1);
            let commands = names.iter().fold(commands, |commands, (theirs, ours)| commands.replace(theirs, ours));
            assert_eq!(shell(&commands), said, "{commands}");
            count += 1;
        }
        assert!(count > 0, "the guide has nothing to try");
    }
}

/// What `commands` print, but for what differs from time to time.
fn shell(commands: &str) -> String {
    let output = Command::new("sh").args(["-e", "-c", commands]).output().expect("there is a shell");
    assert!(output.status.success(), "{commands}: {output:?}");
    let said = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    said.split_inclusive('\n').filter(|line| !line.starts_with("date: ")).collect()
}
