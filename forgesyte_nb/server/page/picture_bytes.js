/** Whatever a caller has for a picture, as the bytes of an image file. */

import { fromBase64 } from "./wire.js";

/** The bytes of an image file. Everything that can change later is taken before the first `await`. */
export async function bytesOf(image, jpegQuality) {
  if (ArrayBuffer.isView(image)) return new Uint8Array(image.buffer, image.byteOffset, image.byteLength).slice();
  if (image instanceof ArrayBuffer) return new Uint8Array(image.slice(0));
  if (typeof image === "string") return fromBase64(image);
  const file = image instanceof Blob ? image : await encodeJpeg(image, jpegQuality);
  return new Uint8Array(await file.arrayBuffer());
}

function encodeJpeg(picture, quality) {
  const isCanvas = typeof picture?.getContext === "function";
  const canvas = isCanvas ? picture : drawn(picture);
  if (canvas.convertToBlob) return canvas.convertToBlob({ type: "image/jpeg", quality });
  return new Promise((resolve, reject) => {
    const failed = new Error("the canvas could not be encoded: it is empty or too large");
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(failed)), "image/jpeg", quality);
  });
}

function drawn(picture) {
  const width = picture?.videoWidth || picture?.naturalWidth || picture?.displayWidth || picture?.width;
  const height = picture?.videoHeight || picture?.naturalHeight || picture?.displayHeight || picture?.height;
  if (!(width > 0 && height > 0) || typeof OffscreenCanvas === "undefined") {
    throw new TypeError(
      "no picture: pass a Uint8Array, ArrayBuffer, Blob, base64 text, canvas, video or image that has loaded",
    );
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas;
}
