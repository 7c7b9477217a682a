//! The engine as a Python module: converts, releases the GIL, maps errors. Nothing else.
#![allow(missing_docs)] // The module's documentation is the stub beside the Python code.

use std::sync::Arc;

use evenflow_engine::engine::{Engine, EngineError};
use evenflow_engine::output::Output;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exception under the name it has in Python; the engine's own error has the same.
mod exception {
    use pyo3::create_exception;
    use pyo3::exceptions::PyException;

    create_exception!(
        _engine,
        EngineError,
        PyException,
        "The engine refused or failed."
    );
}

fn raise(py: Python<'_>, error: &EngineError) -> PyErr {
    let raised = exception::EngineError::new_err(error.to_string());
    let value = raised.value(py);
    for (name, text) in [
        ("code", error.code),
        ("path", error.path.as_str()),
        ("message", error.message.as_str()),
    ] {
        if let Err(failed) = value.setattr(name, text) {
            return failed;
        }
    }
    raised
}

#[pyclass(name = "Engine", module = "evenflow._engine", frozen)]
struct PyEngine {
    engine: Arc<Engine>,
}

impl PyEngine {
    /// Calls the engine without the GIL.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Engine) -> Result<T, EngineError> + Send,
    ) -> PyResult<T> {
        let engine = &self.engine;
        py.detach(|| call(engine))
            .map_err(|error| raise(py, &error))
    }

    fn bytes<'py>(
        &self,
        py: Python<'py>,
        call: impl FnOnce(&Engine) -> Result<Vec<u8>, EngineError> + Send,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.call(py, call)?;
        Ok(PyBytes::new(py, &bytes))
    }
}

#[pymethods]
impl PyEngine {
    #[new]
    fn new(py: Python<'_>, workers: usize) -> PyResult<Self> {
        match Engine::new(workers) {
            Ok(engine) => Ok(Self {
                engine: Arc::new(engine),
            }),
            Err(error) => Err(raise(py, &error)),
        }
    }

    fn apply<'py>(&self, py: Python<'py>, plan: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, |engine| engine.apply(plan))
    }

    fn change_members<'py>(&self, py: Python<'py>, change: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, |engine| engine.change_members(change))
    }

    fn update_pool(&self, py: Python<'_>, update: &[u8]) -> PyResult<()> {
        self.call(py, |engine| engine.update_pool(update))
    }

    fn set_endpoint(&self, py: Python<'_>, update: &[u8]) -> PyResult<()> {
        self.call(py, |engine| engine.set_endpoint(update))
    }

    fn clear_ejection(&self, py: Python<'_>, pool: &str, id: &str) -> PyResult<()> {
        self.call(py, |engine| engine.clear_ejection(pool, id))
    }

    fn set_breaker(&self, py: Python<'_>, update: &[u8]) -> PyResult<()> {
        self.call(py, |engine| engine.set_breaker(update))
    }

    fn set_hedge(&self, py: Python<'_>, update: &[u8]) -> PyResult<()> {
        self.call(py, |engine| engine.set_hedge(update))
    }

    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, Engine::outcomes)
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, Engine::snapshot)
    }

    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, Engine::totals)
    }

    fn take_passed<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        let (document, missed) = self.call(py, Engine::take_passed)?;
        Ok((PyBytes::new(py, &document), missed))
    }

    fn charge(&self, py: Python<'_>, passed: &[u8]) -> PyResult<()> {
        self.call(py, |engine| engine.charge(passed))
    }

    fn endpoint<'py>(
        &self,
        py: Python<'py>,
        pool: &str,
        id: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, |engine| engine.endpoint(pool, id))
    }

    fn explain<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, |engine| engine.explain(request))
    }

    fn submit_probes(&self, py: Python<'_>, probes: &[u8]) -> PyResult<()> {
        self.call(py, |engine| engine.submit_probes(probes))
    }

    fn take_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, Engine::take_events)
    }

    fn fileno(&self) -> i32 {
        self.engine.fileno()
    }

    fn reopen_logs(&self, py: Python<'_>) {
        py.detach(|| self.engine.reopen_logs());
    }

    fn stop_accepting(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Engine::stop_accepting)
    }

    fn drain<'py>(&self, py: Python<'py>, deadline_s: f64) -> PyResult<Bound<'py, PyBytes>> {
        self.bytes(py, |engine| engine.drain(deadline_s))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.engine.close());
    }
}

/// For each slot the index of its winner: see the strategies in Python that call it.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Extraction hands over owned vectors.
fn consistent_table(py: Python<'_>, ids: Vec<String>, weights: Vec<u32>, slots: usize) -> Vec<u32> {
    py.detach(|| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        evenflow_rules::consistent::consistent_table(&ids, &weights, slots)
    })
}

/// Appends whole lines to `stdout` or `stderr`, in turn with the access log.
#[pyfunction]
fn write_lines(py: Python<'_>, output: &str, lines: &[u8]) -> PyResult<()> {
    Ok(py.detach(|| Output::open(output)?.write_lines(lines))?)
}

/// The argon2id hash of a password; `None` where it cannot be made.
#[pyfunction]
fn hash_password(py: Python<'_>, password: &[u8]) -> Option<String> {
    py.detach(|| evenflow_rules::password::hash_password(password))
}

/// Whether a hash is that of what was presented; one that is no hash is nobody's.
#[pyfunction]
fn verify_password(py: Python<'_>, hash: &str, presented: &[u8]) -> bool {
    py.detach(|| {
        evenflow_rules::password::Hash::parse(hash).is_ok_and(|hash| hash.verify(presented))
    })
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyEngine>()?;
    module.add(
        "EngineError",
        module.py().get_type::<exception::EngineError>(),
    )?;
    module.add_function(wrap_pyfunction!(consistent_table, module)?)?;
    module.add_function(wrap_pyfunction!(write_lines, module)?)?;
    module.add_function(wrap_pyfunction!(hash_password, module)?)?;
    module.add_function(wrap_pyfunction!(verify_password, module)?)?;
    Ok(())
}
