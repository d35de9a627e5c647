//! Randomness from the operating system.

/// `N` bytes that nobody can guess.
///
/// # Panics
/// When the operating system has no random numbers to give; nothing safe can be done then.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// `length` letters and digits, each drawn evenly from the 62: 5.95 bits a character.
pub(crate) fn random_base62(length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        // 248 is the largest multiple of 62 below 256; bytes above it would favour the first letters.
        let usable = random_bytes::<64>().into_iter().filter(|byte| *byte < 248);
        text.extend(usable.take(length - text.len()).map(|byte| char::from(BASE62[usize::from(byte) % 62])));
    }
    text
}

/// `value` in base 62, `width` characters, zeros in front; higher digits are cut.
pub(crate) fn base62(mut value: u64, width: usize) -> String {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(value % 62) as usize];
        value /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_text_uses_the_whole_alphabet_evenly() {
        let text = random_base62(62 * 400);
        assert_eq!(text.len(), 62 * 400);
        for letter in BASE62 {
            let count = text.bytes().filter(|byte| byte == letter).count();
            // 400 expected, standard deviation 20: eight of them never happen by chance.
            assert!((240..560).contains(&count), "{} occurs {count} times", char::from(*letter));
        }
    }

    #[test]
    fn base62_pads_with_zeros() {
        assert_eq!(base62(0, 3), "000");
        assert_eq!(base62(61, 3), "00z");
        assert_eq!(base62(62, 3), "010");
    }
}
