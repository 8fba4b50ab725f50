/**
 * Pictures out of the bytes of an image file, away from the page's own thread.
 *
 * `createImageBitmap` takes bytes as a Blob alone, which lives in another process of the browser: the way there and back
 * costs as much as the decoding, and waits where the machine is busy. `ImageDecoder` takes them as they are. Not every
 * browser has it, it is only for pages by HTTPS or on localhost, and not every one turns pictures as their EXIF asks.
 */

const EXIF_WITHIN = 4096; // bytes: the segment stands first in a JPEG (Exif 2.3, section 4.5.4)
const latin1 = new TextDecoder("latin1");

/**
 * @param {Uint8Array} bytes
 * @param {string} type Such as "image/jpeg".
 * @returns {Promise<ImageBitmap | VideoFrame>} To be drawn, and closed; rejected if it is no picture.
 */
export async function decode(bytes, type) {
  if (type === "image/jpeg" && globalThis.ImageDecoder && !hasExif(bytes)) {
    const decoder = new ImageDecoder({ type, data: bytes });
    try {
      return (await decoder.decode()).image;
    } catch {
      // It knows fewer kinds of JPEG than the other.
    } finally {
      decoder.close();
    }
  }
  return createImageBitmap(new Blob([bytes], { type }));
}

/** @param {ImageBitmap | VideoFrame | OffscreenCanvas} picture @returns {{width: number, height: number}} In pixels. */
export function sizeOf(picture) {
  return { width: picture.displayWidth ?? picture.width, height: picture.displayHeight ?? picture.height };
}

const hasExif = (bytes) => latin1.decode(bytes.subarray(0, EXIF_WITHIN)).includes("Exif");
