//! Matrix product on this thread, by the same gemm as candle's.
//!
//! candle 0.11.1 asks for the number of cores at every product, and where `RAYON_NUM_THREADS` is not set that means reading
//! all of /proc/cpuinfo: 40 to 90 microseconds, which was nine tenths of the time of a small model. One forward runs on
//! one thread here in any case, so the question need not be asked.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// `[m, k] x [k, n]`, or the same for each of a batch `[b, m, k] x [b, k, n]`. Strides as they come, f32 only.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &Product)
}

struct Product;

/// One operand: a batch of matrices inside a slice.
struct Operand<'a> {
    data: &'a [f32],
    batch: usize,
    rows: usize,
    columns: usize,
    batch_stride: usize,
    row_stride: isize,
    column_stride: isize,
}

impl<'a> Operand<'a> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let CpuStorage::F32(data) = storage else {
            bail!("a product of other numbers than f32")
        };
        let ([batch, rows, columns], [batch_stride, row, column]) = match (layout.dims(), layout.stride()) {
            (&[rows, columns], &[row, column]) => ([1, rows, columns], [0, row, column]),
            (&[batch, rows, columns], &[first, row, column]) => {
                ([batch, rows, columns], [first, row, column])
            }
            (dims, _) => bail!("a product of shape {dims:?}"),
        };
        let Some(data) = data.get(layout.start_offset()..) else {
            bail!("an offset beyond the data")
        };
        let operand = Self {
            data,
            batch,
            rows,
            columns,
            batch_stride,
            row_stride: row.try_into()?,
            column_stride: column.try_into()?,
        };
        if batch > 0 && rows > 0 && columns > 0 {
            let last = [(batch, batch_stride), (rows, row), (columns, column)];
            let last = last.iter().try_fold(0usize, |at, (n, stride)| {
                at.checked_add((n - 1).checked_mul(*stride)?)
            });
            // The proof that the unsafe call below leans on: the largest index lies in the slice.
            if last.is_none_or(|last| last >= data.len()) {
                bail!("a layout beyond the data");
            }
        }
        Ok(operand)
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (Operand::new(s1, l1)?, Operand::new(s2, l2)?);
        if a.batch != b.batch || a.columns != b.rows {
            bail!("a product of shapes {:?} and {:?}", l1.dims(), l2.dims());
        }
        let size = a.rows * b.columns;
        let mut out = vec![0f32; a.batch * size];
        if size > 0 && a.columns > 0 {
            for (index, out) in out.chunks_exact_mut(size).enumerate() {
                multiply(&a, &b, index, out);
            }
        }
        let shape = match l1.dims().len() {
            2 => Shape::from((a.rows, b.columns)),
            _ => Shape::from((a.batch, a.rows, b.columns)),
        };
        Ok((CpuStorage::F32(out), shape))
    }
}

/// Writes matrix `index` of the batch to `out` `[a.rows, b.columns]`. No operand is empty.
fn multiply(a: &Operand<'_>, b: &Operand<'_>, index: usize, out: &mut [f32]) {
    let (lhs, rhs) = (
        &a.data[index * a.batch_stride..],
        &b.data[index * b.batch_stride..],
    );
    let (m, n, k) = (a.rows, b.columns, a.columns);
    debug_assert_eq!(out.len(), m * n);
    #[expect(unsafe_code, reason = "gemm takes pointers; the bounds are proven below")]
    // SAFETY: `Operand::new` checked that the last element of the last matrix lies in each slice, strides are not
    // negative, and `index` is below both batches, so every read of lhs (m x k) and rhs (k x n) is inside. `out` has
    // exactly m * n elements, is written with row stride n and column stride 1, and aliases neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n.cast_signed(),
            false,
            lhs.as_ptr(),
            a.column_stride,
            a.row_stride,
            rhs.as_ptr(),
            b.column_stride,
            b.row_stride,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::product;
    use candle_core::{Device, Tensor};

    fn tensor(shape: &[usize], seed: f32) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 0.37).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn check(a: &Tensor, b: &Tensor) {
        let (found, expected) = (
            product(a, b).unwrap(),
            a.contiguous().unwrap().matmul(&b.contiguous().unwrap()).unwrap(),
        );
        assert_eq!(found.dims(), expected.dims());
        let worst = (found - expected)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 1e-4);
    }

    #[test]
    fn products_are_those_of_candle_for_any_strides() {
        for (m, k, n) in [(1, 128, 768), (7, 32, 9), (3, 1, 5), (1, 1, 1), (33, 65, 17)] {
            check(&tensor(&[m, k], 1.0), &tensor(&[k, n], 2.0));
            check(&tensor(&[m, k], 1.0), &tensor(&[n, k], 2.0).t().unwrap());
            check(&tensor(&[k, m], 1.0).t().unwrap(), &tensor(&[k, n], 2.0));
            check(
                &tensor(&[4, m, k], 1.0),
                &tensor(&[4, n, k], 2.0).transpose(1, 2).unwrap(),
            );
            let cut = tensor(&[4, n, k + 3], 3.0).narrow(2, 2, k).unwrap();
            check(&tensor(&[4, m, k], 1.0), &cut.transpose(1, 2).unwrap());
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        assert!(product(&tensor(&[2, 3], 0.0), &tensor(&[4, 2], 0.0)).is_err());
        assert!(product(&tensor(&[2, 2, 3], 0.0), &tensor(&[3, 3, 2], 0.0)).is_err());
        assert!(product(&tensor(&[2, 3], 0.0), &tensor(&[3], 0.0)).is_err());
        assert_eq!(
            product(&tensor(&[0, 3], 0.0), &tensor(&[3, 2], 0.0))
                .unwrap()
                .dims(),
            [0, 2]
        );
    }
}
